package prototype

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cfgd/internal/run"
)

// two is a pair of machines with prepared answers of zfs(8): one here, and one reached by ssh(1).
type two struct {
	here, there map[string]string // answers by command; an error begins with !
	ran         []string
}

func (w *two) Run(_ context.Context, c run.Cmd) (string, error) {
	line := c.String()
	w.ran = append(w.ran, line)
	answers := w.here
	if c.Name == "ssh" {
		answers, line = w.there, c.Args[len(c.Args)-1]
	}
	for cmd, a := range answers {
		if !strings.HasPrefix(line, cmd) {
			continue
		}
		if words, bad := strings.CutPrefix(a, "!"); bad {
			return "", &run.Error{Cmd: c, Stderr: words, Err: errors.New("exit status 1")}
		}
		return a, nil
	}
	return "", fmt.Errorf("%s: not expected", line)
}

func (w *two) RunPipe(_ context.Context, p run.Pipe, progress func(int64)) (string, error) {
	w.ran = append(w.ran, p.String())
	progress(42)
	return "", nil
}

const (
	listOf  = "zfs list -Hpr -t snapshot -s createtxg -o name,guid "
	tokenOf = "zfs get -Hpr -t filesystem,volume -o name,value receive_resume_token "
)

// snaps is what zfs list prints of a dataset and its etc: name=guid, of both.
func snaps(dataset string, all ...string) string {
	var b strings.Builder
	for _, s := range all {
		name, guid, _ := strings.Cut(s, "=")
		fmt.Fprintf(&b, "%s@%s\t1%s\n%[1]s/etc@%[2]s\t2%[3]s\n", dataset, name, guid)
	}
	return b.String()
}

func newest(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return names[len(names)-1]
}

func TestSendPlans(t *testing.T) {
	t.Parallel()
	none := "!cannot open 'zpool/proto': dataset does not exist"
	noToken := "zpool/proto\t-\nzpool/proto/etc\t-\n"
	here := snaps("zpool/proto", "1=1", "2=2", "3=3")
	for name, c := range map[string]struct {
		there, token        string
		to                  string
		incremental, resume bool
		pipe                string // or a part of the error, or "" for nothing to do
		err                 error
	}{
		"nothing there": {
			none, "", "", false, false,
			"zfs send -R zpool/proto@3 | ssh -o BatchMode=yes slave 'zfs receive -s -u -o readonly=on " +
				"zpool/proto'", nil,
		},
		"nothing, incremental": {none, "", "", true, false, "no snapshot is on both sides", ErrNoCommon},
		"one behind": {
			snaps("zpool/proto", "1=1", "2=2"), noToken, "", true, false,
			"zfs send -R -I @2 zpool/proto@3 | ssh -o BatchMode=yes slave 'zfs receive -s -u -o " +
				"readonly=on zpool/proto'", nil,
		},
		"another name": {
			snaps("tank/a", "1=1"), "tank/a\t-\n", "tank/a", false, false,
			"zfs send -R -I @1 zpool/proto@3 | ssh -o BatchMode=yes slave 'zfs receive -s -u -o " +
				"readonly=on tank/a'", nil,
		},
		"all there": {here, noToken, "", false, false, "", nil},
		"older ones gone": {
			snaps("zpool/proto", "2=2"), noToken, "", false, false, "zfs send -R -I @2 zpool/proto@3 | ssh",
			nil,
		},
		"others of its names": {
			snaps("zpool/proto", "1=7", "2=8"), noToken, "", false, false, "zfs destroy -r zpool/proto on it",
			ErrNoCommon,
		},
		"newer ones of its own": {snaps("zpool/proto", "1=1", "daily=9"), noToken, "", false, false,
			"has snapshots that are newer than the last common one, @1: @daily; where no jail there uses " +
				"them: zfs destroy -r zpool/proto@daily", ErrNewerThere},
		"nothing but a name": {
			"", noToken, "", false, false, "no snapshot is on both sides", ErrNoCommon,
		},
		"cut short": {
			snaps("zpool/proto", "1=1"), "zpool/proto\t1-abc\nzpool/proto/etc\t-\n", "", false, false,
			"zfs receive -A zpool/proto on slave gives it up", ErrInterrupted,
		},
		"cut short, resumed": {
			snaps("zpool/proto", "1=1"), "zpool/proto\t-\nzpool/proto/etc\t1-abc\n", "", false, true,
			"zfs send -t 1-abc | ssh -o BatchMode=yes slave 'zfs receive -s -u zpool/proto/etc'", nil,
		},
		"a token of another": {
			snaps("zpool/proto", "1=1"), "zpool/proto\t1-bad\n", "", false, true, `it names "zpool/secret@1"`,
			ErrToken,
		},
		"a token of a gone one": {
			snaps("zpool/proto", "1=1"), "zpool/proto\t1-9\n", "", false, true, `it names "zpool/proto@9"`,
			ErrToken,
		},
		"a token that is an option": {
			snaps("zpool/proto", "1=1"), "zpool/proto\t-F\n", "", false, true, "zfs receive -A", ErrToken,
		},
		"a token with a shell": {
			snaps("zpool/proto", "1=1"), "zpool/proto\t1;reboot\n", "", false, true, "zfs receive -A",
			ErrToken,
		},
		"a token elsewhere": {
			snaps("zpool/proto", "1=1"), "zpool/other\t1-abc\n", "", false, true, "it is of zpool/other",
			ErrToken,
		},
		"no network": {"!ssh: connect to host slave port 22: refused", "", "", false, false, "refused", nil},
		"lies":       {"zpool/other@1\t1\n", noToken, "", false, false, "not a snapshot of zpool/proto", nil},
	} {
		w := &two{here: map[string]string{listOf + "zpool/proto": here,
			"zfs send -nvt 1-abc": "resume token contents:\n\ttoname = zpool/proto/etc@2\nincremental\tx\n",
			"zfs send -nvt 1-bad": "\ttoname = zpool/secret@1\n",
			"zfs send -nvt 1-9":   "\ttoname = zpool/proto@9\n"},
			there: map[string]string{listOf: c.there, tokenOf: c.token}}
		if c.to == "" {
			c.to = "zpool/proto"
		}
		s := &Sender{Run: w, Host: "slave"}
		p, err := s.Plan(t.Context(), "zpool/proto", c.to, newest, c.incremental, c.resume)
		switch {
		case err != nil:
			if c.pipe == "" || !strings.Contains(err.Error(), c.pipe) ||
				c.err != nil && !errors.Is(err, c.err) {
				t.Errorf("%s: %v", name, err)
			}
		case c.err != nil:
			t.Errorf("%s: planned %s", name, p.Pipe)
		case c.pipe == "" != p.Done() || !strings.HasPrefix(p.Pipe.String(), c.pipe):
			t.Errorf("%s: %s", name, p.Pipe)
		}
		for _, line := range w.ran {
			if strings.Contains(line, "receive ") || strings.Contains(line, "destroy") {
				t.Errorf("%s: a plan ran %s", name, line)
			}
		}
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	w := &two{here: map[string]string{"zfs send -nvP -R": "full\tzpool/proto@3\t99\nsize\t123456\n"}}
	s := &Sender{Run: w, Host: "slave"}
	tr := &Transfer{Dataset: "zpool/proto", To: "zpool/proto", Snapshot: "3"}
	if err := s.full(t.Context(), tr); err != nil {
		t.Fatal(err)
	}
	if n := s.Size(t.Context(), tr); n != 123456 {
		t.Errorf("%d bytes", n)
	}
	moved := int64(0)
	if err := s.Send(t.Context(), tr, func(n int64) { moved = n }); err != nil || moved != 42 {
		t.Errorf("%d, %v", moved, err)
	}
	want := []string{
		"zfs send -nvP -R zpool/proto@3",
		"zfs send -R zpool/proto@3 | ssh -o BatchMode=yes slave 'zfs receive -s -u -o readonly=on " +
			"zpool/proto'",
	}
	if !slices.Equal(w.ran, want) {
		t.Errorf("%q", w.ran)
	}
}

func TestSplitHost(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{"slave": "slave ",
		"root@slave.example.org": "root@slave.example.org ", "h:tank/x": "h tank/x",
		"-oProxyCommand=x": "", "": "", "a b": "", "h:": "", "h:tank": "", "h:tank/x y": "",
		"h:tank/../x": "", "h;reboot": "", "u@-h": "", "h:-F/x": ""} {
		name, to, err := SplitHost(arg)
		if got := name + " " + to; (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q: %q, %v", arg, got, err)
		}
	}
}
