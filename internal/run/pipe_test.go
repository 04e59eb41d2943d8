package run

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestPipe(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no sh here")
	}
	const large = "dd if=/dev/zero bs=65536 count=64 2>/dev/null"
	for name, c := range map[string]struct {
		from, to Cmd
		out      string
		moved    int64
		want     []string // parts of the error
		not      string
	}{
		"all is well":     {sh(large), sh("wc -c"), "4194304", 4 << 20, nil, ""},
		"nothing to move": {sh("true"), sh("wc -c"), "0", 0, nil, ""},
		"the first fails": {
			sh("echo part; echo why >&2; exit 3"), sh("cat"), "part", 5, []string{"exit status 3", "why"}, "",
		},
		"the second fails": {
			sh(large), sh("echo because >&2; exit 4"), "", -1, []string{"exit status 4", "because"},
			"broken pipe",
		},
		"the second reads a bit": {
			sh(large), sh("head -c 10 >/dev/null; exit 5"), "", -1, []string{"exit status 5"}, "SIGPIPE",
		},
		"the second goes at once": {
			sh("sleep 100"), sh("echo gone >&2; exit 6"), "", -1, []string{"exit status 6", "gone"}, "killed",
		},
		"the second has enough": {
			sh(large), sh("head -c 10 >/dev/null"), "", -1, []string{"pipe: "}, "killed",
		},
		"both fail": {
			sh("echo one >&2; exit 3"), sh("cat >/dev/null; echo two >&2; exit 4"), "",
			0, []string{"one", "two"}, "",
		},
		"no such program": {sh("true"), Command("no-such-program"), "", -1, []string{"no-such-program"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			moved := int64(0)
			out, err := System{}.RunPipe(t.Context(), Pipe{c.from, c.to}, func(n int64) { moved = n })
			if (err != nil) != (c.want != nil) || strings.TrimSpace(out) != c.out ||
				c.moved >= 0 && moved != c.moved {
				t.Errorf("%q, %d, %v", out, moved, err)
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%v: lacks %q", err, w)
				}
			}
			if c.not != "" && strings.Contains(err.Error(), c.not) {
				t.Errorf("%v", err)
			}
		})
	}
	if got := (Pipe{
		sh("a b"), Command("ssh", "h", "x 'y'"),
	}).String(); got != `sh -c 'a b' | ssh h 'x '\''y'\'''` {
		t.Error(got)
	}
}

// Whoever interrupts ends both sides, and what they started.
func TestPipeIsInterrupted(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("sh"); err != nil {
		t.Skip("no sh here")
	}
	ctx, stop := context.WithCancel(t.Context())
	start := time.Now()
	_, err := System{}.RunPipe(ctx, Pipe{sh("echo x; sleep 100 & sleep 100"), sh("sleep 100 & cat")},
		func(int64) { stop() })
	if !errors.Is(err, context.Canceled) || time.Since(start) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	_, err = System{Limit: 50 * time.Millisecond}.RunPipe(t.Context(), Pipe{sh("sleep 100"), sh("cat")},
		func(int64) {})
	if !errors.Is(err, ErrStalled) {
		t.Errorf("%v", err)
	}
}
