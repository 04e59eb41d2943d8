package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"cfgd/config/tomldoc"
)

// DefaultFile is the path of cfgd.toml, below --root's directory.
const DefaultFile = "/usr/local/etc/cfgd.toml"

// Backing is what holds a target's live tree: an md(4) memory disk, a tmpfs(5), or a plain directory.
type Backing string

// The backings of a live tree. BackingAuto occurs only in configuration and is resolved by Load.
const (
	BackingAuto  Backing = "auto"
	BackingMD    Backing = "md"
	BackingTmpfs Backing = "tmpfs"
	BackingDir   Backing = "dir"
)

// Watch is how a target is watched: by the system's events (kqueue(2) on FreeBSD), or only by scans.
type Watch string

// The ways of watching. WatchAuto is resolved by the daemon, which counts descriptors first.
const (
	WatchAuto     Watch = "auto"
	WatchFsnotify Watch = "fsnotify"
	WatchScan     Watch = "scan"
)

// OnConflict is what a start does if both the default and the saved file changed.
type OnConflict string

// The ways out of a conflict at start: keep the saved file, or take the new default.
const (
	ConflictMine   OnConflict = "mine"
	ConflictTheirs OnConflict = "theirs"
)

// Settings are the values that [defaults], [host] and [jail.NAME] of cfgd.toml may set for a target.
type Settings struct {
	Settle          time.Duration // quiet time after a change before it is saved
	Trial           time.Duration // how long a new image is on trial, only for the host; 0 for no trial
	MaxWait         time.Duration // a file that never settles is saved at least this often
	Rescan          time.Duration // time between metadata scans of the whole tree
	Rehash          time.Duration // time between content scans of the whole tree
	Memory          Backing       // never BackingAuto after Load
	MemorySize      int64         // bytes of the md or tmpfs
	Watch           Watch
	MaxFile         int64 // bytes; a larger file is reported and not saved
	KeepGenerations int   // how many generations the store keeps
	// bytes that objects and generations may take: 512 KiB for the host, 16 MiB for a jail
	KeepBytes  int64
	OnConflict OnConflict
}

// defaultSettings are the values without a cfgd.toml. The host's store is small because rc.initdiskless
// copies all of /cfg into memory at every start.
func defaultSettings(host bool) Settings {
	s := Settings{
		Settle:          500 * time.Millisecond,
		MaxWait:         5 * time.Second,
		Rescan:          time.Minute,
		Rehash:          time.Hour,
		Memory:          BackingAuto,
		MemorySize:      16 << 20,
		Watch:           WatchAuto,
		MaxFile:         4 << 20,
		KeepGenerations: 100,
		KeepBytes:       16 << 20,
		OnConflict:      ConflictMine,
	}
	if host {
		s.KeepBytes = 512 << 10
	}
	return s
}

// settingCheck checks the value of one key and returns how it changes Settings.
type settingCheck func(v any) (func(*Settings), error)

// settingKeys are the keys of [defaults], which [host] and [jail.NAME] may repeat.
var settingKeys = map[string]settingCheck{
	"settle":   duration(func(s *Settings, d time.Duration) { s.Settle = d }),
	"max_wait": duration(func(s *Settings, d time.Duration) { s.MaxWait = d }),
	"rescan":   duration(func(s *Settings, d time.Duration) { s.Rescan = d }),
	"rehash":   duration(func(s *Settings, d time.Duration) { s.Rehash = d }),
	"memory": oneOf(func(s *Settings, b Backing) { s.Memory = b },
		BackingAuto, BackingMD, BackingTmpfs, BackingDir),
	"memory_size": size(minMemory, maxMemory, func(s *Settings, n int64) { s.MemorySize = n }),
	"watch": oneOf(func(s *Settings, w Watch) { s.Watch = w }, WatchAuto, WatchFsnotify,
		WatchScan),
	"max_file":         size(1, math.MaxInt64, func(s *Settings, n int64) { s.MaxFile = n }),
	"keep_bytes":       size(1, math.MaxInt64, func(s *Settings, n int64) { s.KeepBytes = n }),
	"keep_generations": generations,
	"on_conflict": oneOf(func(s *Settings, o OnConflict) { s.OnConflict = o }, ConflictMine,
		ConflictTheirs),
}

// Bounds of a memory filesystem in bytes: newfs(8) fails below the minimum, and more than the maximum is
// a typing error.
const (
	minMemory = 1 << 20
	maxMemory = 64 << 30
)

// settingError is an error about a value, with what to write instead.
type settingError struct{ message, fix string }

func (e *settingError) Error() string { return e.message }

// settingFix returns what to do about an error of a setting.
func settingFix(err error) string {
	if e, ok := errors.AsType[*settingError](err); ok {
		return e.fix
	}
	return ""
}

func badSetting(fix, format string, args ...any) error {
	return &settingError{fmt.Sprintf(format, args...), fix}
}

const durationFix = `write a duration such as "500ms", "5s", "1m" or "1h"`

// duration accepts a positive time.ParseDuration string.
func duration(set func(*Settings, time.Duration)) settingCheck {
	return func(v any) (func(*Settings), error) {
		text, ok := v.(string)
		if !ok {
			return nil, badSetting(durationFix, "%v is %s, not a duration", v, tomldoc.Kind(v))
		}
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, badSetting(durationFix, "%q is not a duration", text)
		}
		if d <= 0 {
			return nil, badSetting(durationFix, "%q is not more than nothing", text)
		}
		return func(s *Settings) { set(s, d) }, nil
	}
}

// size accepts bytes with the suffix k, m or g.
func size(least, most int64, set func(*Settings, int64)) settingCheck {
	return func(v any) (func(*Settings), error) {
		n, err := parseSize(v)
		switch {
		case err != nil:
			return nil, err
		case n < least:
			return nil, badSetting("write "+formatSize(least)+" or more", "%v is too small", v)
		case n > most:
			return nil, badSetting("write "+formatSize(most)+" or less", "%v is too large", v)
		}
		return func(s *Settings) { set(s, n) }, nil
	}
}

const sizeFix = `write a size such as "512k", "16m" or "1g"`

// parseSize parses a whole number of bytes, KiB, MiB or GiB. A TOML integer is bytes.
func parseSize(v any) (int64, error) {
	if n, ok := v.(int64); ok {
		return n, nil
	}
	text, ok := v.(string)
	if !ok {
		return 0, badSetting(sizeFix, "%v is %s, not a size", v, tomldoc.Kind(v))
	}
	number, shift := text, 0
	if text != "" {
		if i := strings.IndexByte("kmg", text[len(text)-1]|0x20); i >= 0 {
			number, shift = text[:len(text)-1], 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || int64(n) > math.MaxInt64>>shift {
		return 0, badSetting(sizeFix, "%q is not a size", text)
	}
	return int64(n) << shift, nil
}

// formatSize formats bytes with the largest suffix that gives a whole number.
func formatSize(n int64) string {
	for i, suffix := range []string{"g", "m", "k"} {
		if shift := 30 - 10*i; n >= 1<<shift && n%(1<<shift) == 0 {
			return strconv.FormatInt(n>>shift, 10) + suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// oneOf accepts one of a few words.
func oneOf[T ~string](set func(*Settings, T), words ...T) settingCheck {
	return func(v any) (func(*Settings), error) {
		for _, w := range words {
			if v == any(string(w)) {
				return func(s *Settings) { set(s, w) }, nil
			}
		}
		return nil, badSetting("write one of "+strings.Trim(fmt.Sprint(words), "[]"), "%q is not known",
			fmt.Sprint(v))
	}
}

// generations accepts the number of generations to keep.
func generations(v any) (func(*Settings), error) {
	n, ok := v.(int64)
	if !ok || n < 1 || n > 1_000_000 {
		return nil, badSetting("write a whole number such as 100", "%v is not a number of generations", v)
	}
	return func(s *Settings) { s.KeepGenerations = int(n) }, nil
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
