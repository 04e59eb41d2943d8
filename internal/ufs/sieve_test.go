package ufs

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A tree of which only a part is needed: large and small files, holes, links, a directory of many names, all
// read out of a stream as out of the image.
func TestSieve(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("makefs"); err != nil {
		t.Skip("no makefs here")
	}
	tree := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(p string, size int) {
		b := bytes.Repeat([]byte(fmt.Sprintf("%s %d\n", p, size)), size/8+1)[:size]
		must(os.MkdirAll(filepath.Join(tree, filepath.Dir(p)), 0o755))
		must(os.WriteFile(filepath.Join(tree, p), b, 0o644))
	}
	for i := range 300 {
		write(fmt.Sprintf("usr/share/%03d/file", i), 20000)
		write(fmt.Sprintf("conf/base/etc/many/a-name-that-is-rather-long-%04d", i), i*7)
	}
	write("boot/kernel", 12<<20)
	write("conf/base/etc/large", 3<<20)
	write("conf/base/etc/empty", 0)
	must(os.Symlink(strings.Repeat("long/", 60), filepath.Join(tree, "conf/base/etc/long")))
	must(os.Symlink("../etc", filepath.Join(tree, "conf/base/etc/short")))
	must(os.WriteFile(filepath.Join(tree, "conf/base/etc/holes"), nil, 0o644))
	must(os.Truncate(filepath.Join(tree, "conf/base/etc/holes"), 2<<20))
	for name, opts := range map[string]string{
		"UFS1":        "version=1,bsize=8192,fsize=1024",
		"UFS2":        "version=2,bsize=4096,fsize=512",
		"UFS2, large": "version=2,bsize=32768,fsize=4096",
	} {
		file := filepath.Join(t.TempDir(), "fs")
		if out, err := exec.Command("makefs", "-t", "ffs", "-o", opts, "-s", "64m", file, tree).
			CombinedOutput(); err != nil {
			t.Fatalf("makefs: %v: %s", err, out)
		}
		img, err := os.ReadFile(file)
		must(err)
		whole, err := Open(bytes.NewReader(img), int64(len(img)))
		must(err)
		open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(img)), nil }
		s, err := NewSieve(img[:1<<20], 32<<20)
		must(err)
		f, err := s.Take(t.Context(), []string{"conf/base/etc"}, open)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, want := contents(t, f), contents(t, whole)
		if got != want || strings.Count(got, "\n") != 306 {
			t.Errorf("%s: %d names, of %d:\n%.300s", name, strings.Count(got, "\n"),
				strings.Count(want, "\n"), got)
		}
		kept := int64(len(s.have)) * f.fsize
		if s.Passes() > 4 || kept > 8<<20 {
			t.Errorf("%s: %d passes, %d bytes kept", name, s.Passes(), kept)
		}
		t.Logf("%s: %d passes, %d KiB kept of %d", name, s.Passes(), kept>>10, len(img)>>10)

		small, err := NewSieve(img[:1<<20], 1<<20)
		must(err)
		if _, err := small.Take(t.Context(), []string{"conf/base/etc"}, open); !errors.Is(err, ErrSieve) {
			t.Errorf("%s: %v", name, err)
		}
		cut, err := NewSieve(img[:1<<20], 32<<20)
		must(err)
		if _, err := cut.Take(t.Context(), []string{"conf/base/etc"}, func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(img[:len(img)/2])), nil
		}); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s, cut: %v", name, err)
		}
	}
}

// contents is all below conf/base/etc, with its content.
func contents(t *testing.T, f *FS) string {
	t.Helper()
	var b strings.Builder
	err := f.Walk(t.Context(), "conf/base/etc", func(e *Entry) error {
		fmt.Fprintf(&b, "%s %v %d %d %d %q", e.Path, e.Mode, e.UID, e.Size, e.MTime, e.Link)
		if e.Mode.IsRegular() {
			r, err := f.Open(e)
			if err != nil {
				return err
			}
			content, err := io.ReadAll(r)
			if err != nil {
				return fmt.Errorf("%s: %w", e.Path, err)
			}
			fmt.Fprintf(&b, " %x", sha256.Sum256(content))
		}
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A hostile filesystem is read within the bounds, or refused.
func FuzzSieve(f *testing.F) {
	for _, two := range []bool{false, true} {
		m := newMini(f, two, 1<<19)
		f.Add(m.b)
	}
	f.Fuzz(func(t *testing.T, img []byte) {
		s, err := NewSieve(img, 4<<20)
		if err != nil {
			return
		}
		open := func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(img), &zeros{64 << 20})), nil
		}
		if fsys, err := s.Take(t.Context(), []string{""}, open); err == nil {
			_ = fsys.Walk(t.Context(), "", func(e *Entry) error {
				if !e.Mode.IsRegular() {
					return nil
				}
				r, err := fsys.Open(e)
				if err != nil {
					return err
				}
				_, err = io.CopyN(io.Discard, r, 1<<20)
				if err == io.EOF {
					err = nil
				}
				return err
			})
		}
		if int64(len(s.have)+len(s.want))*s.f.fsize > 5<<20 {
			t.Errorf("%d fragments of %d bytes", len(s.have)+len(s.want), s.f.fsize)
		}
	})
}

type zeros struct{ n int }

func (z *zeros) Read(b []byte) (int, error) {
	if z.n == 0 {
		return 0, io.EOF
	}
	n := min(len(b), z.n)
	clear(b[:n])
	z.n -= n
	return n, nil
}
