package dirfd

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// held skips the test where the filesystem refuses an attribute.
func held(t *testing.T, err error) {
	t.Helper()
	if XattrRefused(err) {
		t.Skipf("this filesystem holds no extended attributes: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func sameXattrs(a, b []Xattr) bool {
	return slices.EqualFunc(a, b, func(a, b Xattr) bool {
		return a.Name == b.Name && bytes.Equal(a.Value, b.Value)
	})
}

func TestXattrs(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	f, err := tr.Create("new")
	tr.must(err)
	defer f.Close()
	none, err := f.Xattrs()
	if err != nil && !NoXattr(err) || len(none) != 0 {
		t.Errorf("of a new file: %v, %v", none, err)
	}
	want := []Xattr{{"user.a", bytes.Repeat([]byte("x"), 3000)}, {"user.b", []byte("2\x00\xff")},
		{"user.empty", nil},
		{"user.three.four", []byte("3")}}
	for _, x := range want {
		held(t, f.SetXattr(x))
	}
	if got, err := f.Xattrs(); err != nil || !sameXattrs(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if NoXattr(err) {
		t.Error("a file that holds attributes was said to hold none")
	}
}

// A list that does not fit into the first buffer is read whole, names of 200 bytes too.
func TestManyXattrs(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	f, err := tr.Create("new")
	tr.must(err)
	defer f.Close()
	var want []Xattr
	for i := range 12 { // ext4 has one block of 4 KiB for all
		x := Xattr{fmt.Sprintf("user.%02d%s", i, strings.Repeat("n", 200)), []byte{byte(i)}}
		want = append(want, x)
		held(t, f.SetXattr(x))
	}
	if got, err := f.Xattrs(); err != nil || !sameXattrs(got, want) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestDirXattrs(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	d, err := tr.Dir.Dir("dir")
	tr.must(err)
	defer d.Close()
	held(t, d.SetXattr(Xattr{"user.one", []byte("1")}))
	tr.must(
		errors.Join(d.SetXattr(Xattr{"user.two", []byte("2")}), d.SetXattr(Xattr{"user.two", []byte("II")})),
	)
	tr.must(errors.Join(d.RemoveXattr("user.one"), d.RemoveXattr("user.one")))
	if got, err := d.Xattrs(); err != nil || !sameXattrs(got, []Xattr{{"user.two", []byte("II")}}) {
		t.Errorf("%q, %v", got, err)
	}
	var heard []string
	for _, op := range tr.ops {
		heard = append(heard, op.Kind+" "+op.Path+" "+op.To)
	}
	last := []string{"rmxattr dir user.one", "rmxattr dir user.one"}
	if !slices.Equal(heard[len(heard)-2:], last) {
		t.Errorf("heard %q", heard)
	}
}

func TestXattrRefused(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	for err, want := range map[error]bool{
		unix.EOPNOTSUPP: true, tr.fail("xattr", "x", unix.EOPNOTSUPP): true,
		unix.ENOSPC: false, unix.E2BIG: true, unix.ERANGE: true, unix.EINVAL: true, unix.EROFS: false,
		unix.EDQUOT: false, unix.EACCES: false, unix.EIO: false, nil: false, ErrNoXattr: false,
	} {
		if got := XattrRefused(err); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
	if !NoXattr(ErrNoXattr) || NoXattr(unix.EOPNOTSUPP) || NoXattr(nil) {
		t.Error("NoXattr")
	}
}

// FreeBSD fills a buffer that is too small without a word, Linux answers ERANGE: of both the whole comes, or
// an error.
func TestSized(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 1, 1023, 1024, 1025, 1026, 8192, 8193, 65535, 65536, 65537, 100000} {
		want := bytes.Repeat([]byte("v"), size)
		for name, get := range map[string]func(b []byte) (int, error){
			"cut off": func(b []byte) (int, error) { return copy(b, want), nil },
			"ERANGE": func(b []byte) (int, error) {
				if len(b) < size {
					return -1, unix.ERANGE
				}
				return copy(b, want), nil
			},
		} {
			got, err := sized(get)
			if size > maxXattr {
				if err != errTooLong {
					t.Errorf("%s, %d bytes: %d bytes, %v", name, size, len(got), err)
				}
				continue
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s, %d bytes: %d bytes, %v", name, size, len(got), err)
			}
		}
	}
	if _, err := sized(func([]byte) (int, error) { return 0, errNoAttr }); err != errNoAttr {
		t.Errorf("%v", err)
	}
}

func TestSplitNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 255)
	for list, want := range map[string][]string{
		"": nil, "\x01a": {"a"}, "\x03one\x05three": {"one", "three"},
		"\xff" + long + "\x02\x00.": {long, "\x00."},
	} {
		if got, err := splitNames([]byte(list)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", list, got, err)
		}
	}
	for _, list := range []string{"\x00", "\x01", "\x02a", "\x01a\x00", "\x01a\x09b", "user.a\x00"} {
		if got, err := splitNames([]byte(list)); err == nil {
			t.Errorf("%q: %q", list, got)
		}
	}
}

func FuzzSplitNames(f *testing.F) {
	f.Add([]byte("\x03one\x05three"))
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := splitNames(b)
		if err != nil {
			return
		}
		var back []byte
		for _, n := range names {
			back = append(append(back, byte(len(n))), n...)
		}
		if !bytes.Equal(b, back) {
			t.Errorf("%q is read as %q", b, names)
		}
	})
}

// One attribute that can't be read is named, and keeps none of the others from being read.
func TestReadXattrs(t *testing.T) {
	t.Parallel()
	bads := map[string]error{"user.gone": errNoAttr, "user.long": nil, "user.\nbroken": unix.EIO, "": nil}
	for bad, err := range bads {
		all, got := readXattrs([]string{"user.z", "user.a", bad}, func(name string, b []byte) (int, error) {
			switch {
			case name != bad:
				return copy(b, "v"), nil
			case err != nil:
				return -1, err
			}
			return copy(b, make([]byte, maxXattr+1)), nil
		})
		if !sameXattrs(all, []Xattr{{"user.a", []byte("v")}, {"user.z", []byte("v")}}) {
			t.Errorf("%q: %q", bad, all)
		}
		wrong, name := err != errNoAttr, fmt.Sprintf("%q", bad)
		if wrong != (got != nil) || wrong && !strings.Contains(got.Error(), name) {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// What is kept of one file is bounded: what does not fit is named and left out, whatever the filesystem
// holds.
func TestXattrsTooLarge(t *testing.T) {
	t.Parallel()
	half := maxXattr/2 - 6
	for _, c := range []struct {
		sizes     map[string]int // of values; -1 is an EIO
		kept      string
		wrong     string // what the error names
		forgiving bool
	}{
		{map[string]int{"user.a": half, "user.b": half}, "user.a user.b", "", false},
		{map[string]int{"user.a": half, "user.b": half + 1}, "user.a", `"user.b"`, true},
		{map[string]int{"user.a": half, "user.b": half, "user.c": 0}, "user.a user.b", `"user.c"`, true},
		{map[string]int{"user.a": maxXattr - 5, "user.b": 1}, "user.b", `"user.a"`, true},
		{map[string]int{
			"user.a": maxXattr + 1,
			"user.b": maxXattr,
			"user.c": 9 * maxXattr,
			"user.d": maxXattr,
			"user.e": maxXattr,
			"user.z": 1,
		}, "user.z",
			`"user.a" "user.b" "user.c" and 2 more`, true},
		{
			map[string]int{"user.a": maxXattr, "user.b": -1, "user.c": 1}, "user.c",
			"\"user.b\": input/output error\n\"user.a\"", false,
		},
	} {
		var names, kept []string
		for name := range c.sizes {
			names = append(names, name)
		}
		all, err := readXattrs(names, func(name string, b []byte) (int, error) {
			if c.sizes[name] < 0 {
				return -1, unix.EIO
			}
			return copy(b, make([]byte, c.sizes[name])), nil
		})
		size := 0
		for _, x := range all {
			kept, size = append(kept, x.Name), size+len(x.Name)+len(x.Value)
		}
		if strings.Join(kept, " ") != c.kept || size > maxXattr || (err != nil) != (c.wrong != "") ||
			XattrsTooLarge(err) != c.forgiving {
			t.Errorf("%v: kept %q, %v, forgiving %v", c.sizes, kept, err, XattrsTooLarge(err))
		}
		if err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%v: %v, want %s", c.sizes, err, c.wrong)
		}
		if fit, over := FitXattrs(all); len(over) > 0 || !sameXattrs(fit, all) {
			t.Errorf("%v: what was kept does not fit: %q", c.sizes, over)
		}
	}
}

// An attribute for which a file has no room is refused like one that the filesystem does not take: a
// filesystem that has room is not full.
func TestXattrWithoutRoom(t *testing.T) {
	t.Parallel()
	tr := newTree(t)
	f, err := tr.Create("new")
	tr.must(err)
	defer f.Close()
	d, err := tr.Dir.Dir("dir")
	tr.must(err)
	defer d.Close()
	for what, set := range map[string]func(Xattr) error{"file": f.SetXattr, "directory": d.SetXattr} {
		err := error(nil)
		for i := 0; err == nil && i < 64; i++ {
			err = set(Xattr{fmt.Sprintf("user.%02d", i), bytes.Repeat([]byte("v"), 3000)})
		}
		switch {
		case err == nil:
			t.Skip("this filesystem has room for all")
		case !XattrRefused(err):
			t.Errorf("%s: %v", what, err)
		}
	}
}
