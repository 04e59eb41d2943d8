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
	"strings"
	"testing"
	"time"
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
	for name, size := range map[string]int{"empty": 0, "one": 1, "frag": 5000, "direct": 90000, "indirect": 700000, "double": 9 << 20, "conf/base/etc/rc.conf": 70, "conf/base/etc/rc.d/x": 4096} {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		must(os.WriteFile(filepath.Join(dir, name), b, 0o640))
	}
	for i := range 300 {
		must(os.WriteFile(filepath.Join(dir, "many", fmt.Sprintf("%s%d", strings.Repeat("n", i%200), i)), []byte{byte(i)}, 0o600))
	}
	must(os.Symlink("conf/base/etc/rc.conf", filepath.Join(dir, "short")))
	must(os.Symlink(strings.Repeat("l/", 90)+"end", filepath.Join(dir, "long")))
	must(os.Link(filepath.Join(dir, "one"), filepath.Join(dir, "hard")))
	must(os.Chmod(filepath.Join(dir, "frag"), 0o4755))
	must(os.Chtimes(filepath.Join(dir, "direct"), time.Unix(1700000000, 0), time.Unix(1700000001, 0)))
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
	for _, options := range []string{"version=1", "version=2", "version=1,bsize=4096,fsize=512", "version=2,bsize=8192,fsize=1024", "version=2,bsize=32768,fsize=4096"} {
		b := image(t, dir, options, "48m")
		f, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			t.Fatalf("%s: %v", options, err)
		}
		n := 0
		err = f.Walk(t.Context(), "", func(e *Entry) error {
			n++
			return sameAs(f, e, filepath.Join(dir, e.Path))
		})
		if err != nil || n < 310 {
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
	st, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if st.Mode().Type() != e.Mode.Type() || st.Mode().Perm() != e.Mode.Perm() || !st.ModTime().Truncate(time.Second).Equal(time.Unix(0, e.MTime).Truncate(time.Second)) {
		return fmt.Errorf("%s: %v %v, and not %v %v", e.Path, e.Mode, time.Unix(0, e.MTime), st.Mode(), st.ModTime())
	}
	if st.Mode()&fs.ModeSetuid != 0 && e.Perm&0o4000 == 0 {
		return fmt.Errorf("%s: lacks setuid", e.Path)
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
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, bytes.Repeat([]byte(p), 3000), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("conf", filepath.Join(dir, "l")); err != nil {
		t.Fatal(err)
	}
	for _, options := range []string{"version=1", "version=2"} {
		good := image(t, dir, options, "2m")
		r := rand.New(rand.NewPCG(1, 2))
		used := usedBytes(good)
		for range 3000 {
			b := bytes.Clone(good)
			for range 1 + r.IntN(4) {
				b[used[r.IntN(len(used))]] = byte(r.Uint32())
			}
			readAll(t, b)
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

func readAll(t testing.TB, b []byte) {
	f, err := Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return
	}
	total := int64(0)
	_ = f.Walk(context.Background(), "", func(e *Entry) error {
		if e.Mode.IsRegular() {
			r, err := f.Open(e)
			if err != nil {
				return nil
			}
			n, _ := io.Copy(io.Discard, io.LimitReader(r, 1<<20))
			total += n
		}
		if total > 64<<20 {
			return errors.New("enough")
		}
		return nil
	})
}

func FuzzOpen(f *testing.F) {
	sb := make([]byte, 1376)
	copy(sb[1372:], []byte{0x19, 0x01, 0x54, 0x19})
	for at, v := range map[int]byte{49: 0x40, 53: 8, 56: 8, 44: 1, 184: 64, 189: 4, 16: 8, 120: 64, 1320: 120} {
		sb[at] = v
	}
	f.Add(sb, make([]byte, 512), uint16(8))
	f.Fuzz(func(t *testing.T, sb, inodes []byte, at uint16) {
		b := make([]byte, 256<<10)
		copy(b[int(at)*512%len(b):], inodes)
		copy(b[65536:], sb)
		readAll(t, b)
	})
}
