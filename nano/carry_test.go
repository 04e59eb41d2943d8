package nano

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cfgd/internal/memory"
	"cfgd/internal/run"
)

// ran notes what is run. What mount(8) would mount is a directory that stands there already.
type ran struct {
	lines   []string
	fails   string
	says    map[string]string
	mounted int
}

func (r *ran) Run(_ context.Context, c run.Cmd) (string, error) {
	r.lines = append(r.lines, c.String())
	if r.fails == c.Name {
		return "", errors.New(c.Name + " fails")
	}
	switch c.Name {
	case "mount":
		r.mounted++
	case "umount":
		r.mounted--
	}
	return r.says[c.Name], nil
}

func (r *ran) mountedOn(dir string) ([]memory.Mount, error) {
	return slices.Repeat([]memory.Mount{{Source: "/dev/ada0s2a", Dir: dir}}, r.mounted), nil
}

// A file is carried with its mode and time, in the place of another one or of none; the slice is mounted for
// it, unmounted whatever happens, and checked.
func TestCarry(t *testing.T) {
	t.Parallel()
	when := time.Unix(1700000000, 0)
	for name, c := range map[string]struct {
		fails string
		have  map[string]string
		boot  bool // the image has /boot
		want  []string
		lines string
		err   string
	}{
		"both":         {"", map[string]string{"boot/loader.conf.local": "a\n", "boot.config": "-h\n"}, true, []string{"boot/loader.conf.local", "boot.config"}, "mount umount fsck_ffs", ""},
		"one":          {"", map[string]string{"boot.config": "-h\n"}, false, []string{"boot.config"}, "mount umount fsck_ffs", ""},
		"no directory": {"", map[string]string{"boot/loader.conf.local": "a\n"}, false, nil, "mount umount", "/boot/loader.conf.local could not be carried over"},
		"no mount":     {"mount", map[string]string{"boot.config": "-h\n"}, true, nil, "mount", "mount fails"},
		"no umount":    {"umount", map[string]string{"boot.config": "-h\n"}, true, nil, "mount umount", "umount fails"},
		"not whole":    {"fsck_ffs", map[string]string{"boot.config": "-h\n"}, true, nil, "mount umount fsck_ffs", "fsck_ffs fails"},
	} {
		root, runDir := t.TempDir(), t.TempDir()
		mnt := filepath.Join(runDir, "nano.mnt")
		must := func(errs ...error) {
			t.Helper()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
		}
		must(os.MkdirAll(filepath.Join(root, "boot"), 0o755), os.MkdirAll(mnt, 0o755))
		if c.boot {
			must(os.MkdirAll(filepath.Join(mnt, "boot"), 0o755), os.WriteFile(filepath.Join(mnt, "boot.config"), []byte("old"), 0o600))
		}
		for p, text := range c.have {
			full := filepath.Join(root, p)
			must(os.WriteFile(full, []byte(text), 0o640), os.Chmod(full, 0o640), os.Chtimes(full, when, when))
		}
		r := &ran{fails: c.fails}
		m := &Machine{Root: root, RunDir: runDir, Run: r, MountedOn: r.mountedOn}
		err := m.carryInto(t.Context(), "/dev/ada0s2a", slices.Sorted(maps.Keys(c.have)))
		var words []string
		for _, l := range r.lines {
			words = append(words, strings.Fields(l)[0])
		}
		if strings.Join(words, " ") != c.lines || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", name, r.lines, err)
		}
		for _, p := range c.want {
			st, err := os.Stat(filepath.Join(mnt, p))
			b, rerr := os.ReadFile(filepath.Join(mnt, p))
			if err != nil || rerr != nil || string(b) != c.have[p] || st.Mode().Perm() != 0o640 || !st.ModTime().Equal(when) {
				t.Errorf("%s: %s is %q, %v, %v", name, p, b, st, errors.Join(err, rerr))
			}
		}
		for _, dir := range []string{mnt, filepath.Join(mnt, "boot")} {
			if left, _ := filepath.Glob(filepath.Join(dir, ".cfgd*")); len(left) > 0 {
				t.Errorf("%s: left %q", name, left)
			}
		}
		if r.lines[0] != "mount -t ufs /dev/ada0s2a "+mnt {
			t.Errorf("%s: %q", name, r.lines)
		}
	}
}
