package overlay

import (
	"bytes"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const inNamespace = "CFGD_TEST_NAMESPACE"

// namespaced runs the test again in its own mount namespace, and reports whether this is that run.
func namespaced(t *testing.T) bool {
	if os.Getenv(inNamespace) != "" {
		return true
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) {
		t.Skip("no mount namespace to be had here")
	}
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	return false
}

func (b *files) mount(p, options string) {
	b.Helper()
	b.must(os.MkdirAll(b.path(p), 0o755))
	b.must(unix.Mount("tmpfs", b.path(p), "tmpfs", 0, options))
	b.Cleanup(func() { _ = unix.Unmount(b.path(p), unix.MNT_DETACH) })
}

func TestFullCfg(t *testing.T) {
	if !namespaced(t) {
		return
	}
	b := newBox(t, etc)
	b.mount("jail/cfg", "size=256k")
	b.populate()
	b.edit("big", noise(1, 400<<10))
	b.saveFails(store.ErrNoSpace, "KiB")
	b.edit("big", noise(2, 40<<10))
	b.save()

	b.must(os.WriteFile(b.path("jail/cfg/.cfgd/filler"), []byte(noise(3, 150<<10)), 0o600))
	b.edit("big", noise(4, 45<<10))
	b.edit("rc.conf", "small\n")
	b.saveFails(store.ErrNoSpace, "KiB")
	b.must(os.Remove(b.path("jail/cfg/.cfgd/filler")))
	b.save()
	want := b.shape("jail/etc")
	b.restart()
	got := b.shape("jail/etc")
	delete(want, ".") // the store does not keep the root's own time
	delete(got, ".")
	b.same(want, got)

	// Old history is dropped to make room for a save, as long as there is any.
	for i := range uint64(20) {
		b.edit("big", noise(10+i, 45<<10))
		b.save()
	}
	if got := b.read("jail/cfg/big"); got != noise(29, 45<<10) {
		t.Error("cfg does not hold the last version")
	}
}

// An archive that has no room in cfg is not brought back, and live stays as it was. Files that no save takes
// need no room there.
func TestUnrescueIntoFullCfg(t *testing.T) {
	if !namespaced(t) {
		return
	}
	b := newBox(t, etc)
	b.mount("jail/cfg", "size=256k")
	b.populate()
	b.edit("rc.conf", "small\n")
	b.edit("big", noise(1, 100<<10))
	var archive, large bytes.Buffer
	_, err := b.o.Rescue(t.Context(), &archive, RescueOptions{})
	b.must(err)
	b.restart()
	b.must(os.WriteFile(b.path("jail/cfg/.cfgd/filler"), []byte(noise(3, 150<<10)), 0o600))
	before := b.shape("jail/etc")
	_, err = b.o.Unrescue(t.Context(), bytes.NewReader(archive.Bytes()), "")
	if !errors.Is(err, store.ErrNoSpace) || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("%v", err)
	}
	b.same(before, b.shape("jail/etc"))
	b.must(os.Remove(b.path("jail/cfg/.cfgd/filler")))
	_, err = b.o.Unrescue(t.Context(), bytes.NewReader(archive.Bytes()), "")
	b.must(err)
	if b.read("jail/cfg/big") != noise(1, 100<<10) {
		t.Error("it did not come back")
	}
	b.o.Target.MaxFile = 1 << 20
	b.edit("large", noise(4, 1<<20+1))
	_, err = b.o.Rescue(t.Context(), &large, RescueOptions{Only: []string{"large"}})
	b.must(err)
	b.remove("large")
	_, err = b.o.Unrescue(t.Context(), &large, "")
	b.must(err)
	if b.read("jail/etc/large") != noise(4, 1<<20+1) {
		t.Error("the large file did not come back")
	}
}

// There may be room in bytes and none in inodes: the kernel reports it in the middle of the save.
func TestCfgOutOfInodes(t *testing.T) {
	if !namespaced(t) {
		return
	}
	b := newBox(t, etc)
	b.mount("jail/cfg", "size=4m,nr_inodes=40")
	b.populate()
	b.edit("rc.conf", "first\n")
	b.save()
	for i := range 60 {
		b.edit(fmt.Sprintf("many/%d", i), fmt.Sprint(i))
	}
	b.saveFails(store.ErrNoSpace, "no space left")
	b.must(unix.Mount("", b.path("jail/cfg"), "", unix.MS_REMOUNT, "size=4m,nr_inodes=400"))
	if r := b.save(); r.Generation != 2 || b.read("jail/cfg/many/59") != "59" {
		t.Errorf("with room: generation %d", r.Generation)
	}
}

func TestReadOnlyCfg(t *testing.T) {
	if !namespaced(t) {
		return
	}
	b := newBox(t, etc)
	b.mount("jail/cfg", "size=1m")
	b.populate()
	b.edit("rc.conf", "one\n")
	b.save()
	b.write("jail/cfg/hosts", "by hand\n")
	b.must(unix.Mount("", b.path("jail/cfg"), "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=1m"))
	b.edit("issue", "unsaved\n")
	b.o = b.overlay()
	v := b.look()
	if !v.ReadOnly || v.Current.Generation != 2 || paths(v.Unsaved) != "M hosts, M issue" {
		t.Errorf("read-only %v, generation %d, unsaved %s", v.ReadOnly, v.Current.Generation,
			paths(v.Unsaved))
	}
	b.saveFails(ErrReadOnly, "read-only")
	b.restart()
	if got := b.read("jail/etc/rc.conf") + b.read("jail/etc/hosts"); got != "one\nby hand\n" {
		t.Errorf("populated from a read-only cfg: %q", got)
	}
	// Live can still be populated from a cfg that has no store and is read-only.
	b.must(b.o.Clear(context.Background()))
	b.must(unix.Mount("", b.path("jail/cfg"), "", unix.MS_REMOUNT, "size=1m"))
	b.must(os.RemoveAll(filepath.Join(b.path("jail/cfg"), tree.MetaName)))
	b.must(unix.Mount("", b.path("jail/cfg"), "", unix.MS_REMOUNT|unix.MS_RDONLY, "size=1m"))
	b.o = b.overlay()
	b.populate()
	if got := b.read("jail/etc/rc.conf"); got != "one\n" {
		t.Errorf("populated from a read-only cfg without a store: %q", got)
	}
	b.edit("issue", "unsaved\n")
	b.saveFails(ErrReadOnly, "read-only")
}

// What cannot be read is not deleted.
func TestOtherFilesystemIsNoDeletion(t *testing.T) {
	if !namespaced(t) {
		return
	}
	b, check := hostileBox(t)
	b.edit("local/nginx/mime.types", "one\n")
	b.save()
	b.mount("jail/etc/local/nginx", "size=1m")
	b.edit("rc.conf", "one\n")
	r := b.save()
	b.kept(r, "local/nginx/mime.types", "another filesystem")
	b.kept(r, "local/nginx/nginx.conf", "another filesystem")
	b.must(unix.Unmount(b.path("jail/etc/local/nginx"), 0))
	if got := b.read("jail/cfg/local/nginx/mime.types") + b.read("jail/cfg/.cfgd/removed"); got != "one\n" {
		t.Errorf("cfg: %q", got)
	}
	if v := b.look(); len(v.Unsaved) != 0 {
		t.Errorf("unsaved %s", paths(v.Unsaved))
	}
	check()
}

// device is a device's number as mknod(2) takes it here.
func device(major, minor uint32) int { return int(unix.Mkdev(major, minor)) }

// A part of cfg that cannot be read (another filesystem is mounted there; an I/O error looks the same) is not
// taken for deleted.
func TestHiddenPartOfCfgIsNotDeleted(t *testing.T) {
	if !namespaced(t) {
		return
	}
	b := newBox(t, etc)
	b.populate()
	b.edit("local/nginx/nginx.conf", "mine\n")
	b.save()
	b.must(unix.Mount("tmpfs", b.path("jail/cfg/local"), "tmpfs", 0, "size=1m"))
	_, err := b.o.Save(context.Background(), SaveOptions{})
	if err == nil || !strings.Contains(err.Error(), "local/nginx/nginx.conf: another filesystem") {
		t.Errorf("saved: %v", err)
	}
	b.must(unix.Unmount(b.path("jail/cfg/local"), 0))
	if r := b.save(); r.Generation != 1 || len(r.View.Adopted) != 0 {
		t.Errorf("seen again: generation %d, adopted %q", r.Generation, r.View.Adopted)
	}
}

// noise returns content that does not compress.
func noise(seed uint64, n int) string {
	b := make([]byte, n)
	var key [32]byte
	key[0], key[1] = byte(seed), byte(seed>>8)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return string(b)
}

func (b *box) saveFails(want error, word string) {
	b.Helper()
	before := b.shape("jail/cfg")
	_, err := b.o.Save(context.Background(), SaveOptions{})
	if !errors.Is(err, want) || !strings.Contains(err.Error(), word) {
		b.Errorf("save: %v; want %v, and the word %q", err, want, word)
	}
	after := b.shape("jail/cfg")
	for _, m := range []map[string]string{before, after} {
		// their times may change
		for _, p := range []string{".cfgd", ".cfgd/tmp", ".cfgd/objects", ".cfgd/generations"} {
			delete(m, p)
		}
	}
	b.same(before, after)
}
