package watcher

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/overlay"
	"cfgd/watcher/control"
)

// A file that changes in every copy is saved every max_wait all the same, as one read finds it.
func TestAFileThatChangesInEveryCopy(t *testing.T) {
	t.Parallel()
	inBubble(t, 1, func(b *bubble) {
		n := 0
		write := func() { n++; b.edit("j0", "log", fmt.Sprintf("%09d\n", n)) }
		b.failWith(func(_ string, op dirfd.Op) error {
			if op.Kind == "create" {
				write()
			}
			return nil
		})
		saves, was := "", 0
		for i := range 160 {
			write()
			b.pass(100 * ms)
			if g := b.status("j0").Generation; g != was {
				saves, was = fmt.Sprint(saves, " ", time.Duration(i+1)*100*ms), g
				if got := b.read("j0/cfg/log"); len(got) != 10 {
					t.Errorf("saved %q", got)
				}
			}
		}
		if saves != " 5s 10s 15s" {
			t.Errorf("saved after%s", saves)
		}
		b.failWith(nil)
		b.pass(time.Minute)
		if s := b.status("j0"); s.Conflicts+s.Unsaved > 0 || b.read("j0/cfg/log") != b.read("j0/etc/log") {
			t.Errorf("at rest: %+v", s)
		}
	})
}

// A program that writes a file anew empties it first, and may be slow to go on. The saved file stays until
// then, or until the file was empty for max_wait.
func TestAnEmptiedFile(t *testing.T) {
	t.Parallel()
	inBubble(t, 1, func(b *bubble) {
		saved := func(want string) {
			t.Helper()
			if got := b.read("j0/cfg/rc.conf"); got != want {
				t.Errorf("at %s: saved %q, want %q", time.Now().Format(time.StampMilli), got, want)
			}
		}
		b.edit("j0", "rc.conf", "")
		b.pass(4 * sec)
		saved("(absent)")
		b.edit("j0", "rc.conf", "1\n")
		b.pass(sec)
		saved("1\n")
		b.edit("j0", "rc.conf", "")
		b.edit("j0", "hosts.new", "") // was never anything else
		b.pass(sec)
		if got := b.read("j0/cfg/hosts.new"); got != "" {
			t.Errorf("a new file that is empty: %q", got)
		}
		b.pass(4*sec - ms)
		saved("1\n")
		b.pass(ms)
		saved("")
	})
}

// What a person asks for is saved as it is: empty, or changing. What was not asked for waits on, and does
// not begin to wait anew.
func TestAnExplicitSaveTakesWhatIsThere(t *testing.T) {
	t.Parallel()
	inBubble(t, 1, func(b *bubble) {
		b.edit("j0", "rc.conf", "1\n")
		b.edit("j0", "hosts", "1\n")
		b.pass(sec)
		b.edit("j0", "rc.conf", "")
		b.edit("j0", "hosts", "")
		b.pass(sec)
		tg := b.d.target("j0")
		flush := func(paths ...string) {
			t.Helper()
			b.must(tg.call(context.Background(), func(ctx context.Context) {
				if _, err := tg.flush(ctx, overlay.SaveOptions{Paths: paths}); err != nil {
					t.Error(err)
				}
			}))
		}
		for i := range 4 {
			b.edit("j0", "log", "begun\n")
			b.failWith(func(_ string, op dirfd.Op) error {
				if op.Kind == "create" {
					b.edit("j0", "log", fmt.Sprint(i, "\n"))
				}
				return nil
			})
			flush("rc.conf", "log")
			b.failWith(nil)
			if r, l := b.read("j0/cfg/rc.conf"), b.read("j0/cfg/log"); r != "" || l != fmt.Sprint(i, "\n") {
				t.Errorf("asked for: %q, %q", r, l)
			}
			if got := b.read("j0/cfg/hosts"); got != "1\n" {
				t.Errorf("not asked for: %q", got)
			}
			b.pass(sec - ms)
		}
		b.pass(10 * ms)
		if got := b.read("j0/cfg/hosts"); got != "" {
			t.Errorf("empty for max_wait: %q", got)
		}
	})
}

// The last save takes what has not settled. But a file that has just been emptied does not replace what was
// saved of it, and is named.
func TestTheLastSaveAndAnEmptiedFile(t *testing.T) {
	t.Parallel()
	for _, empty := range []time.Duration{0, 100 * ms, 4900 * ms, 5100 * ms} {
		inBubble(t, 1, func(b *bubble) {
			b.edit("j0", "rc.conf", "1\n")
			b.edit("j0", "hosts", "1\n")
			b.pass(sec)
			b.edit("j0", "rc.conf", "")
			b.pass(empty)
			b.edit("j0", "hosts", "2\n")
			b.must(b.d.stopAll())
			want, said := "1\n", 1
			if empty > 5*sec {
				want, said = "", 0
			}
			if r, h := b.read("j0/cfg/rc.conf"), b.read("j0/cfg/hosts"); r != want || h != "2\n" {
				t.Errorf("empty for %v: saved %q and %q", empty, r, h)
			}
			if n := b.log.count("what was saved before stays: rc.conf"); n != said {
				t.Errorf("empty for %v: said %d times\n%s", empty, n, b.log.String())
			}
		})
	}
}

// With real events, and a writer as fast as it can be: saves go on, though the file changes while it is
// copied. How soon they come is tested with a fake clock.
func TestAFastWriter(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 1)
	m.model.Targets[0].MaxFile = 1 << 30
	m.run()
	f, err := os.Create(m.path("j0/etc/log"))
	m.must(err)
	defer f.Close()
	var stop atomic.Bool
	ended := make(chan error, 1)
	go func() {
		for !stop.Load() {
			if _, err := f.WriteString("\n"); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	for generation := range 4 {
		m.await("j0", "saved while it is written", func(s control.Status) bool {
			return s.Generation > generation
		})
	}
	stop.Store(true)
	m.must(<-ended)
	m.await("j0", "saved at rest", func(s control.Status) bool {
		return s.Unsaved == 0 && m.read("j0/cfg/log") == m.read("j0/etc/log")
	})
	if strings.Contains(m.log.String(), "by hand") {
		t.Errorf("log:\n%s", m.log.String())
	}
}
