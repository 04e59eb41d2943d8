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

	"cfgd/internal/mount"
	"cfgd/internal/run"
)

// ran records the commands. Instead of a mount there is a directory.
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

func (r *ran) mountedOn(dir string) ([]mount.Mount, error) {
	return slices.Repeat([]mount.Mount{{Source: "/dev/ada0s2a", Dir: dir}}, r.mounted), nil
}

// A file is copied with its mode and time, and replaces another one if there is one. The slice is mounted for
// that, always unmounted, and checked.
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
		"both": {"", map[string]string{"boot/loader.conf.local": "a\n", "boot.config": "-h\n"}, true,
			[]string{"boot/loader.conf.local", "boot.config"}, "mount umount fsck_ffs", ""},
		"one": {"", map[string]string{"boot.config": "-h\n"}, false, []string{"boot.config"},
			"mount umount fsck_ffs", ""},
		"no directory": {"", map[string]string{"boot/loader.conf.local": "a\n"}, false, nil, "mount umount",
			"/boot/loader.conf.local could not be carried over"},
		"no mount": {"mount", map[string]string{"boot.config": "-h\n"}, true, nil, "mount",
			"mount fails"},
		"no umount": {"umount", map[string]string{"boot.config": "-h\n"}, true, nil, "mount umount",
			"umount fails"},
		"not whole": {"fsck_ffs", map[string]string{"boot.config": "-h\n"}, true, nil,
			"mount umount fsck_ffs", "fsck_ffs fails"},
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
			must(os.MkdirAll(filepath.Join(mnt, "boot"), 0o755),
				os.WriteFile(filepath.Join(mnt, "boot.config"), []byte("old"), 0o600))
		}
		for p, text := range c.have {
			full := filepath.Join(root, p)
			must(os.WriteFile(full, []byte(text), 0o640), os.Chmod(full, 0o640), os.Chtimes(full, when, when))
		}
		r := &ran{fails: c.fails}
		m := &Disk{Root: root, RunDir: runDir, Run: r, MountedOn: r.mountedOn}
		err := m.carryInto(t.Context(), "/dev/ada0s2a", slices.Sorted(maps.Keys(c.have)))
		var words []string
		for _, l := range r.lines {
			words = append(words, strings.Fields(l)[0])
		}
		if strings.Join(words, " ") != c.lines || (err != nil) != (c.err != "") ||
			err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", name, r.lines, err)
		}
		for _, p := range c.want {
			st, err := os.Stat(filepath.Join(mnt, p))
			b, rerr := os.ReadFile(filepath.Join(mnt, p))
			if err != nil || rerr != nil || string(b) != c.have[p] || st.Mode().Perm() != 0o640 ||
				!st.ModTime().Equal(when) {
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

// fsckHead and fsckTail are what fsck_ffs -n prints about a consistent filesystem.
const (
	fsckHead = "** /dev/ada0s2a (NO WRITE)\n** Last Mounted on /var/run/cfgd/nano.mnt\n" +
		"** Phase 1 - Check Blocks and Sizes\n** Phase 2 - Check Pathnames\n" +
		"** Phase 3 - Check Connectivity\n" +
		"** Phase 4 - Check Reference Counts\n** Phase 5 - Check Cyl groups\n"
	fsckTail = "24 files, 1028 used, 5842 free (18 frags, 728 blocks, 0.3% fragmentation)\n"
)

// fsck_ffs -n always ends with 0, so its output is checked.
func TestFsckOutput(t *testing.T) {
	t.Parallel()
	for output, bad := range map[string]bool{
		"":                  false,
		fsckHead + fsckTail: false,
		fsckHead + "FREE BLK COUNT(S) WRONG IN SUPERBLK\nSALVAGE? no\n\n" +
			fsckTail: true,
		fsckHead + "SUMMARY INFORMATION BAD\n\nSALVAGE? no\n\nBLK(S) MISSING IN BIT MAPS\nSALVAGE? no":  true,
		fsckHead + "UNREF FILE I=5  OWNER=root MODE=100644\nSIZE=3 MTIME=Jan  1 00:00 2024 \nCLEAR? no": true,
		fsckHead + "CANNOT READ BLK: 1056\nCONTINUE? yes\n\n" +
			"THE FOLLOWING DISK SECTORS COULD NOT BE READ:": true,
		fsckHead + fsckTail + "\n***** PLEASE RERUN FSCK *****\n": true,
		fsckHead + "BAD INODE NUMBER\nUNEXPECTED SOFT UPDATE INCONSISTENCY\n" +
			fsckTail: true,
		"** /dev/ada0s2a (NO WRITE)\nSUPERBLOCK CHECK HASH FAILED" +
			"OPENED READONLY SO CANNOT CORRECT CHECK HASH\n": true,
		fsckHead + "CG 0: BAD CHECK-HASH 0x1 vs 0x2\n" + fsckTail: true,
		fsckHead + "\n***** FILE SYSTEM STILL DIRTY *****\n":      true,
	} {
		root, runDir := t.TempDir(), t.TempDir()
		if err := os.WriteFile(filepath.Join(root, "boot.config"), []byte("-h\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(runDir, "nano.mnt"), 0o755); err != nil {
			t.Fatal(err)
		}
		r := &ran{says: map[string]string{"fsck_ffs": output}}
		m := &Disk{Root: root, RunDir: runDir, Run: r, MountedOn: r.mountedOn}
		err := m.carryInto(t.Context(), "/dev/ada0s2a", []string{"boot.config"})
		if (err != nil) != bad || bad && !strings.Contains(err.Error(), "the filesystem is not consistent") {
			t.Errorf("%q: %v", output, err)
		}
	}
}

// ending is a mount(8) that mounts, and is then interrupted together with its caller.
type ending struct {
	*ran
	stop context.CancelFunc
}

func (e ending) Run(ctx context.Context, c run.Cmd) (string, error) {
	out, err := e.ran.Run(ctx, c)
	if c.Name == "mount" {
		e.stop()
	}
	return out, errors.Join(err, ctx.Err())
}

// If mount(8) is interrupted after it has mounted, the mount is undone. If a killed process left a mount, the
// next installation unmounts it, or tells where it is.
func TestMountsThatStay(t *testing.T) {
	t.Parallel()
	h := newHost(t, "mbr", true, tinyImage(t))
	h.must(os.MkdirAll(h.path("run/nano.mnt"), 0o755))
	r := &ran{}
	ctx, stop := context.WithCancel(t.Context())
	m := &Disk{Root: h.dir, RunDir: h.path("run"), Run: ending{r, stop}, MountedOn: r.mountedOn}
	err := m.carryInto(ctx, "/dev/ada0s2", []string{"boot.config"})
	if !errors.Is(err, context.Canceled) || r.mounted != 0 {
		t.Errorf("%v; mounted %d times", err, r.mounted)
	}
	for fails, want := range map[string]string{"": "", "umount": "run umount " + h.path("run/nano.mnt")} {
		h.must(os.MkdirAll(h.path("run/nano.mnt"), 0o755))
		left := &ran{mounted: 2, fails: fails}
		m := h.machine()
		m.MountedOn = left.mountedOn
		m.Run = first{left, h}
		_, err := m.Install(t.Context(), Install{From: strings.NewReader(string(h.image))})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("umount fails %q: %v", fails, err)
		}
		if want == "" && left.mounted != 0 {
			t.Errorf("still mounted %d times", left.mounted)
		}
	}
}

// first runs umount by one and everything else by the other.
type first struct {
	umount *ran
	rest   run.Runner
}

func (f first) Run(ctx context.Context, c run.Cmd) (string, error) {
	if c.Name == "umount" {
		return f.umount.Run(ctx, c)
	}
	return f.rest.Run(ctx, c)
}
