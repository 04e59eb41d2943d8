package ufs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tree makes files of all sorts.
func tree(t testing.TB) string {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(7, 7))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "conf/base/etc/rc.d"), 0o755))
	must(os.MkdirAll(filepath.Join(dir, "many"), 0o700))
	for name, size := range map[string]int{
		"empty":                 0,
		"one":                   1,
		"frag":                  5000,
		"direct":                90000,
		"indirect":              700000,
		"double":                9 << 20,
		"conf/base/etc/rc.conf": 70,
		"conf/base/etc/rc.d/x":  4096,
	} {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		must(os.WriteFile(filepath.Join(dir, name), b, 0o640))
	}
	for i := range 300 {
		must(os.WriteFile(filepath.Join(dir, "many", fmt.Sprintf("%s%d", strings.Repeat("n", i%200), i)),
			[]byte{byte(i)}, 0o600))
	}
	for _, n := range []int{1, 59, 60, 119, 120, 121, 1023} {
		// about where links no longer stand in the inode
		must(os.Symlink(strings.Repeat("l", n), filepath.Join(dir, fmt.Sprint("link", n))))
	}
	must(os.WriteFile(filepath.Join(dir, strings.Repeat("x", 255)), []byte("long name"), 0o604))
	hole, err := os.Create(filepath.Join(dir, "sparse"))
	must(err)
	_, err = hole.WriteAt([]byte("in the midst of nothing"), 1<<20+77)
	must(errors.Join(err, hole.Truncate(3<<20+5), hole.Close()))
	must(os.Link(filepath.Join(dir, "one"), filepath.Join(dir, "hard")))
	must(os.Chmod(filepath.Join(dir, "frag"), 0o4755))
	must(os.Chtimes(filepath.Join(dir, "direct"), time.Unix(1700000000, 0), time.Unix(1700000001, 123456789)))
	return dir
}

// image makes a filesystem of a tree by makefs(8).
func image(t testing.TB, dir, options, size string) []byte {
	if _, err := exec.LookPath("makefs"); err != nil {
		t.Skip("no makefs here")
	}
	file := filepath.Join(t.TempDir(), "image")
	out, err := exec.Command("makefs", "-t", "ffs", "-o", options, "-s", size, file, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("makefs -o %s: %v: %s", options, err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestReadsWhatMakefsWrote(t *testing.T) {
	t.Parallel()
	dir := tree(t)
	for _, options := range []string{
		"version=1", "version=2", "version=1,bsize=4096,fsize=512", "version=2,bsize=8192,fsize=1024",
		"version=2,bsize=4096,fsize=512", "version=2,bsize=32768,fsize=4096",
		"version=2,bsize=65536,fsize=8192",
	} {
		b := image(t, dir, options, "48m")
		f, err := Open(&disk{b: b}, int64(len(b)))
		if err != nil {
			t.Fatalf("%s: %v", options, err)
		}
		if f.Bytes != int64(len(b)) {
			t.Errorf("%s: %d bytes of %d", options, f.Bytes, len(b))
		}
		n := 0
		err = f.Walk(t.Context(), "", func(e *Entry) error {
			n++
			return sameAs(f, e, filepath.Join(dir, e.Path))
		})
		if err != nil || n < 320 {
			t.Errorf("%s: %d entries, %v", options, n, err)
		}
		e, err := f.Stat("conf/base/etc/rc.conf")
		if err != nil {
			t.Fatal(err)
		}
		at, err := f.At(e, 10)
		want, _ := os.ReadFile(filepath.Join(dir, "conf/base/etc/rc.conf"))
		if err != nil || b[at] != want[10] {
			t.Errorf("%s: byte 10 at %d: %v", options, at, err)
		}
		if _, err := f.Stat("conf/none"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", options, err)
		}
		if _, err := f.Stat("one/x"); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: below a file: %v", options, err)
		}
	}
}

func sameAs(f *FS, e *Entry, name string) error {
	var st unix.Stat_t
	if err := unix.Lstat(name, &st); err != nil {
		return err
	}
	// Debian's makefs writes whole seconds
	got := []any{e.Mode.Type(), e.Perm, e.UID, e.GID, e.Nlink, e.MTime / 1e9}
	fi, err := os.Lstat(name)
	if err != nil {
		return err
	}
	want := []any{
		fi.Mode().Type(), uint32(st.Mode) & 0o7777, st.Uid, st.Gid, int(st.Nlink), fi.ModTime().Unix(),
	}
	if !e.Mode.IsDir() { // a directory is as large as its filesystem makes it
		got, want = append(got, e.Size), append(want, fi.Size())
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s: %v, and not %v", e.Path, got, want)
	}
	switch {
	case e.Mode.IsRegular():
		r, err := f.Open(e)
		if err != nil {
			return err
		}
		got, err := io.ReadAll(r)
		want, _ := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, want) {
			return fmt.Errorf("%s: another content: %w", e.Path, err)
		}
	case e.Mode&fs.ModeSymlink != 0:
		if to, _ := os.Readlink(name); to != e.Link {
			return fmt.Errorf("%s: %q", e.Path, e.Link)
		}
	}
	return nil
}

// Whatever a byte of an image is changed to, it is read within its bounds and in bounded time, or refused.
func TestDamagedImages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, p := range []string{"conf/base/etc/rc.conf", "a/b/c", "d"} {
		full := filepath.Join(dir, p)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755),
			os.WriteFile(full, bytes.Repeat([]byte(p), 3000), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("conf", filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	rounds := 3000
	if testing.Short() {
		rounds = 300
	}
	for _, options := range []string{"version=1", "version=2"} {
		good := image(t, dir, options, "2m")
		r := rand.New(rand.NewPCG(1, 2))
		used := usedBytes(good)
		for range rounds {
			undo := map[int]byte{}
			for range 1 + r.IntN(4) {
				at := used[r.IntN(len(used))]
				if _, ok := undo[at]; !ok {
					undo[at] = good[at]
				}
				good[at] = byte(r.Uint32())
			}
			readAll(t, good)
			for at, was := range undo {
				good[at] = was
			}
		}
		for cut := 0; cut < len(good); cut += len(good) / 40 {
			readAll(t, good[:cut])
		}
	}
}

// usedBytes are those that are not zero, and their neighbours.
func usedBytes(b []byte) []int {
	var at []int
	for i := 1; i+1 < len(b); i++ {
		if b[i] != 0 || b[i-1] != 0 || b[i+1] != 0 {
			at = append(at, i)
		}
	}
	return at
}

// readAll reads all there is, as far as is bearable. A disk is read, that stands no read outside of it.
func readAll(t testing.TB, b []byte) {
	d := &disk{b: b}
	f, err := Open(d, int64(len(b)))
	if err != nil {
		return
	}
	total := int64(0)
	err = f.Walk(context.Background(), "", func(e *Entry) error {
		if len(e.Path) > maxPath || len(e.Link) > maxLink {
			t.Errorf("a path of %d bytes, a link of %d", len(e.Path), len(e.Link))
		}
		if e.Mode.IsRegular() {
			r, err := f.Open(e)
			if err != nil {
				return err
			}
			n, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			if total += n; total > 64<<20 {
				return errors.New("enough")
			}
			return outside(t, err)
		}
		return nil
	})
	_ = outside(t, err)
}

// outside complains of an error that the image did not catch and the disk had to.
func outside(t testing.TB, err error) error {
	if err != nil && strings.Contains(err.Error(), "of a disk of") {
		t.Error(err)
	}
	return nil
}

// Seeds are images that hold something of everything; a byte goes where it says among those that are not
// zero, and the image is cut where it says.
func FuzzOpen(f *testing.F) {
	images := map[bool][]byte{false: everything(f, false).b, true: everything(f, true).b}
	used := map[bool][]int{false: usedBytes(images[false]), true: usedBytes(images[true])}
	for _, two := range []bool{false, true} {
		f.Add(two, []byte{}, uint32(1<<31))
		f.Add(two, []byte{0, 0, 0, 1, 200, 1, 0, 255}, uint32(1<<31))
		f.Add(two, []byte{}, uint32(100000))
	}
	f.Fuzz(func(t *testing.T, two bool, changes []byte, cut uint32) {
		b := bytes.Clone(images[two])
		for ; len(changes) >= 4; changes = changes[4:] {
			at := int(changes[0])<<16 | int(changes[1])<<8 | int(changes[2])
			b[used[two][at%len(used[two])]] = changes[3]
		}
		readAll(t, b[:min(int(cut), len(b))])
	})
}
