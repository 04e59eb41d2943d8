package mount

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cfgd/internal/run"
)

func lines(cmds []run.Cmd) string {
	var out []string
	for _, c := range cmds {
		out = append(out, c.String())
	}
	return strings.Join(out, "\n")
}

func TestPlans(t *testing.T) {
	t.Parallel()
	const dir = "/jail/vhost1/etc"
	for name, c := range map[string]struct {
		m            Memdisk
		make, unmake string
	}{
		"md, to be made": {Memdisk{Backing: MD, Size: 16 << 20, Dir: dir, GOOS: "freebsd"},
			"mdconfig -a -t swap -s 16384k\nnewfs -i 2048 -f 1024 -b 8192 -O 2 -n /dev/mdN\ntunefs -n " +
				"disable /dev/mdN\nmount -o noatime,async /dev/mdN /jail/vhost1/etc",
			"umount /dev/mdN\nmdconfig -d -u N"},
		"md, made": {Memdisk{
			Backing: MD,
			Size:    5 << 20,
			Dir:     dir,
			GOOS:    "freebsd",
			Device:  "md12",
		},
			"mdconfig -a -t swap -s 5120k\nnewfs -i 2048 -f 1024 -b 8192 -O 2 -n /dev/md12\ntunefs -n " +
				"disable /dev/md12\nmount -o noatime,async /dev/md12 /jail/vhost1/etc",
			"umount /dev/md12\nmdconfig -d -u 12"},
		"tmpfs on FreeBSD": {Memdisk{Backing: Tmpfs, Size: 16 << 20, Dir: dir, GOOS: "freebsd"},
			"mount -t tmpfs -o size=16777216,mode=755 tmpfs /jail/vhost1/etc", "umount /jail/vhost1/etc"},
		"tmpfs on Linux": {Memdisk{Backing: Tmpfs, Size: 16 << 20, Dir: dir, GOOS: "linux"},
			"mount -c -t tmpfs -o size=16777216,mode=755,nodev,noatime cfgd /jail/vhost1/etc",
			"umount /jail/vhost1/etc"},
		"odd names": {Memdisk{
			Backing: Tmpfs,
			Size:    1 << 20,
			Dir:     "/jail/it's $HOME/etc",
			GOOS:    "freebsd",
		},
			`mount -t tmpfs -o size=1048576,mode=755 tmpfs '/jail/it'\''s $HOME/etc'`,
			`umount '/jail/it'\''s $HOME/etc'`},
	} {
		if got := lines(c.m.MakePlan()); got != c.make {
			t.Errorf("%s: make\n%s\nwant\n%s", name, got, c.make)
		}
		if got := lines(c.m.UnmakePlan()); got != c.unmake {
			t.Errorf("%s: unmake\n%s\nwant\n%s", name, got, c.unmake)
		}
	}
}

// fake prints md7 for a new disk and fails at the command of that name.
type fake struct {
	fails, prints string
	ran           []string
}

var errFake = errors.New("it did not work")

func (f *fake) Run(ctx context.Context, c run.Cmd) (string, error) {
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	f.ran = append(f.ran, c.Name+" "+strings.Join(c.Args[:1], " "))
	if c.Name == f.fails {
		return "", errFake
	}
	if c.Name == "mdconfig" && c.Args[0] == "-a" {
		return f.prints, nil
	}
	return "", nil
}

// made reports whether a disk is made where that command fails.
func made(fails string) bool { return fails == "" || fails == "tunefs" }

func TestMakeUndoesWhatItMade(t *testing.T) {
	t.Parallel()
	m := Memdisk{Backing: MD, Size: 16 << 20, Dir: "/etc", GOOS: "freebsd"}
	var noted []string
	m.Note = func(dev string) error { noted = append(noted, dev); return nil }
	for _, c := range []struct {
		fails, prints string
		want          []string
	}{
		{"", "md7\n", []string{"mdconfig -a", "newfs -i", "tunefs -n", "mount -o"}},
		{"mdconfig", "", []string{"mdconfig -a"}},
		{"newfs", "md7\n", []string{"mdconfig -a", "newfs -i", "mdconfig -d"}},
		{"mount", "md7\n", []string{"mdconfig -a", "newfs -i", "tunefs -n", "mount -o", "mdconfig -d"}},
		{"tunefs", "md7\n", []string{"mdconfig -a", "newfs -i", "tunefs -n", "mount -o"}},
		{"", "md7; rm -rf /\n", []string{"mdconfig -a"}},
		{"", "", []string{"mdconfig -a"}},
	} {
		f := &fake{fails: c.fails, prints: c.prints}
		noted = nil
		dev, err := m.Make(context.Background(), f)
		if got := strings.Join(noted, ","); slices.Contains(c.want, "mdconfig -d") && got != "md7," ||
			made(c.fails) && dev != got {
			t.Errorf("%+v: noted %q", c, noted)
		}
		if !slices.Equal(f.ran, c.want) {
			t.Errorf("%+v: ran %q", c, f.ran)
		}
		if ok := made(c.fails) && c.prints == "md7\n"; ok != (err == nil) || ok && dev != "md7" ||
			!made(c.fails) && !errors.Is(err, errFake) {
			t.Errorf("%+v: %q, %v", c, dev, err)
		}
	}
}

// A cancelled start gives its disk back all the same.
func TestMakeCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	f := &cancelling{cancel: cancel}
	m := Memdisk{Backing: MD, Size: 16 << 20, Dir: "/etc", GOOS: "freebsd"}
	if _, err := m.Make(ctx, f); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := fmt.Sprint(f.ran); got != "[mdconfig -a mdconfig -d]" {
		t.Error(got)
	}
}

type cancelling struct {
	fake
	cancel func()
}

func (c *cancelling) Run(ctx context.Context, cmd run.Cmd) (string, error) {
	c.prints = "md7"
	defer c.cancel()
	return c.fake.Run(ctx, cmd)
}

func TestUnmake(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		m     Memdisk
		fails string
		want  string
		ok    bool
	}{
		{
			Memdisk{Backing: MD, Dir: "/etc", Device: "md7"}, "",
			"[umount /dev/md7 mdconfig -d]", true,
		},
		{Memdisk{Backing: MD, Dir: "/etc", Device: "md7"}, "umount", "[umount /dev/md7]", false},
		{Memdisk{Backing: MD, Dir: "/etc"}, "", "[]", false},
		{Memdisk{Backing: MD, Dir: "/etc", Device: "md7 -o force"}, "", "[]", false},
		{Memdisk{Backing: Tmpfs, Dir: "/etc"}, "", "[umount /etc]", true},
	} {
		f := &fake{fails: c.fails}
		err := c.m.Unmake(context.Background(), f)
		if got := fmt.Sprint(f.ran); got != c.want || (err == nil) != c.ok {
			t.Errorf("%+v: ran %s, %v", c, got, err)
		}
	}
}
