package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// FormatVersion is the number of the store format that this program writes and reads.
const FormatVersion = 1

// ErrNewerFormat says that a newer cfgd wrote the store.
var ErrNewerFormat = errors.New("the store was written by a newer cfgd")

// Names in .cfgd.
const (
	formatFile     = "format"
	manifestFile   = "manifest"
	removedFile    = "removed"
	journalFile    = "journal"
	tmpDir         = "tmp"
	objectsDir     = "objects"
	generationsDir = "generations"
	DamagedName    = "damaged-"
)

// metaDir is cfg's directory .cfgd. It mends what is damaged in it, and says so.
type metaDir struct {
	Cfg  *dirfd.Dir
	Meta *dirfd.Dir // nil if there is no .cfgd and none may be made
	// ReadOnly is true if nothing can or may be written. An adoption is then only in memory.
	ReadOnly bool
	// Notices say in words what was found and mended at opening.
	Notices []string
	// Damaged are the notices that mean damage, by a bad disk or by somebody who changed .cfgd.
	Damaged []string

	clock   func() time.Time
	maxFile int64
	serial  int // of the last name in tmp
}

// openMeta opens .cfgd. It makes it if it is missing and may be made. If something else has that name (a link
// that a jail planted), it is put aside.
func (m *metaDir) openMeta() error {
	st, err := m.Cfg.Stat(tree.MetaName)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m.makeMeta()
	case err != nil:
		return err
	case st.Kind != dirfd.KindDir:
		return m.replaceMeta(st)
	}
	if m.Meta, err = m.Cfg.Dir(tree.MetaName); err != nil {
		return err
	}
	if st.Mode != 0o700 && !m.ReadOnly {
		if err := m.Meta.Chmod(0o700); err != nil {
			return err
		}
	}
	return m.makeDirs()
}

func (m *metaDir) makeMeta() (err error) {
	if m.ReadOnly {
		return nil
	}
	if err := m.Cfg.Mkdir(tree.MetaName); err != nil {
		return err
	}
	if m.Meta, err = m.Cfg.Dir(tree.MetaName); err != nil {
		return err
	}
	return m.makeDirs()
}

func (m *metaDir) replaceMeta(st dirfd.Stat) error {
	m.damage("%s is a %s and not a directory: put aside", m.Cfg.Display(tree.MetaName), st.Kind)
	if m.ReadOnly {
		return nil
	}
	aside := tree.MetaName + ".aside"
	if err := m.Cfg.Rename(tree.MetaName, m.Cfg, aside); err != nil {
		return err
	}
	if err := m.makeMeta(); err != nil {
		return err
	}
	return m.within(tmpDir, func(tmp *dirfd.Dir) error {
		return m.Cfg.Rename(aside, tmp, m.damaged(tmp, "cfgd"))
	})
}

// makeDirs makes the directories of .cfgd that are missing.
func (m *metaDir) makeDirs() error {
	if m.ReadOnly {
		return nil
	}
	made := false
	for _, name := range []string{tmpDir, objectsDir, generationsDir} {
		st, err := m.Meta.Stat(name)
		switch {
		case err == nil && st.Kind == dirfd.KindDir:
			continue
		case err == nil:
			m.damage("%s is a %s and not a directory: removed", m.Meta.Display(name), st.Kind)
			if err := m.Meta.Unlink(name); err != nil {
				return err
			}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if err := m.Meta.Mkdir(name); err != nil {
			return err
		}
		made = true
	}
	if !made {
		return nil
	}
	if err := m.Meta.Sync(); err != nil {
		return err
	}
	return m.Cfg.Sync()
}

// within runs f on an open directory of .cfgd.
func (m *metaDir) within(name string, f func(*dirfd.Dir) error) error {
	d, err := m.Meta.Dir(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(d)
}

// damaged returns a new name in tmp for something damaged.
func (m *metaDir) damaged(tmp *dirfd.Dir, what string) string {
	for n := 0; ; n++ {
		name := fmt.Sprintf("%s%s-%s-%d", DamagedName, what, m.clock().UTC().Format("20060102T150405"), n)
		if _, err := tmp.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return name
		}
	}
}

// putAside moves a damaged file of .cfgd to tmp.
func (m *metaDir) putAside(name string) error {
	if m.ReadOnly {
		return nil
	}
	return m.within(tmpDir, func(tmp *dirfd.Dir) error {
		return m.Meta.Rename(name, tmp, m.damaged(tmp, name))
	})
}

// damage adds a notice of something that no crash of cfgd leaves behind.
func (m *metaDir) damage(format string, args ...any) {
	m.notice(format, args...)
	m.Damaged = append(m.Damaged, m.Notices[len(m.Notices)-1])
}

func (m *metaDir) notice(format string, args ...any) {
	m.Notices = append(m.Notices, fmt.Sprintf(format, args...))
}

// readFormat refuses a newer format and repairs an unreadable one.
func (m *metaDir) readFormat() error {
	if m.Meta == nil {
		return nil
	}
	b, err := m.Meta.ReadFile(formatFile, 64)
	if errors.Is(err, fs.ErrNotExist) {
		return m.writeFormat()
	}
	n := 0
	if err == nil {
		n, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	switch {
	case err == nil && n > FormatVersion:
		return fmt.Errorf("%s: %w: format %d, this one knows %d; use the newer cfgd",
			m.Meta.Display(formatFile), ErrNewerFormat, n, FormatVersion)
	case err == nil && n == FormatVersion:
		return nil
	}
	m.damage("%s: not a format number: written anew", m.Meta.Display(formatFile))
	if err := m.putAside(formatFile); err != nil {
		return err
	}
	return m.writeFormat()
}

func (m *metaDir) writeFormat() error {
	if m.ReadOnly {
		return nil
	}
	if err := m.ReplaceFile(formatFile, []byte(strconv.Itoa(FormatVersion)+"\n")); err != nil {
		return err
	}
	return m.Meta.Sync()
}

// ReplaceFile replaces a whole file of .cfgd: write a temporary, fsync, rename. The caller syncs .cfgd.
func (m *metaDir) ReplaceFile(name string, content []byte) error {
	return m.within(tmpDir, func(tmp *dirfd.Dir) error {
		if err := WriteSynced(tmp, name, content); err != nil {
			return err
		}
		return tmp.Rename(name, m.Meta, name)
	})
}

// WriteSynced makes a new file and syncs it.
func WriteSynced(d *dirfd.Dir, name string, content []byte) error {
	if err := d.RemoveAll(name); err != nil {
		return err
	}
	f, err := d.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// nextName returns a new name in tmp.
func (m *metaDir) nextName() string {
	m.serial++
	return strconv.Itoa(m.serial)
}

// Fits returns an error if a text is longer than limit bytes. The error names the path that takes the most.
func Fits(what string, text []byte, limit int64) error {
	if int64(len(text)) <= limit {
		return nil
	}
	var longest []byte
	for line := range bytes.Lines(text) {
		if len(line) > len(longest) {
			longest = line
		}
	}
	where := ""
	var l pathname.JSON
	if json.Unmarshal(longest, &l) == nil && l.Path != "" {
		where = fmt.Sprintf("; most of it, %d KiB, is about %s", len(longest)>>10, pathname.Quote(l.Path))
	}
	return fmt.Errorf("the %s would have %d KiB and is read up to %d KiB%s; nothing was saved",
		what, (len(text)+1023)>>10, limit>>10, where)
}

// Most is the size in bytes above which no saved content is read. A manifest with a larger one is forged, or
// was written under a larger max_file.
func (m *metaDir) Most() int64 {
	const usual = 64 << 20
	return max(m.maxFile, usual)
}
