package run

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A printed command means to sh what the command is.
func TestStringIsReadBackByShell(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no sh here")
	}
	read := func(t rapid.TB, args []string) {
		line := Command("printf", append([]string{`%s\0`}, args...)...).String()
		out, err := exec.Command(sh, "-c", line).Output()
		if want := strings.Join(args, "\x00") + "\x00"; err != nil || string(out) != want {
			t.Errorf("%q printed as %s: sh reads %q, %v", args, line, out, err)
		}
	}
	read(t, []string{
		"", " ", "a b", "$HOME", "`id`", "it's", "''", `\`, `"`, "a\nb", "*", "~", "~root", "#x", "a=b", "!",
		"{a,b}", "a;b", "&", "-n", "é", "\xfc",
	})
	rapid.Check(t, func(t *rapid.T) {
		read(t, rapid.SliceOfN(
			rapid.StringOfN(rapid.RuneFrom([]rune("ab /.-_=%$'\"\\`~*?[]{}()<>|&;!#\n\té")), 0, 8, -1), 1, 4,
		).Draw(t, "args"))
	})
}

func TestPlainWordsStayPlain(t *testing.T) {
	t.Parallel()
	if got := Command("mount", "-o", "size=16777216,mode=755", "/dev/md0", "/jail/a/etc").
		String(); got != "mount -o size=16777216,mode=755 /dev/md0 /jail/a/etc" {
		t.Error(got)
	}
}

func sh(script string) Cmd { return Command("sh", "-c", script) }

func TestOutputAndErrors(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	if out, err := (System{}).Run(ctx, sh("echo out; echo err >&2")); out != "out\n" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	out, err := System{}.Run(ctx, sh("echo out; echo what is wrong >&2; exit 3"))
	var e *Error
	var exit *exec.ExitError
	if out != "out\n" || !errors.As(err, &e) || e.Stderr != "what is wrong" || !errors.As(err, &exit) ||
		exit.ExitCode() != 3 {
		t.Errorf("%q, %v", out, err)
	}
	if !strings.Contains(err.Error(), "exit 3': exit status 3: what is wrong") {
		t.Error(err)
	}
	if _, err := (System{}).Run(ctx, Command("no-such-program")); !errors.Is(err, exec.ErrNotFound) {
		t.Error(err)
	}
}

// The caller's environment is not the command's.
func TestEnvironmentIsClean(t *testing.T) {
	if os.Getenv("HOME") == "" {
		t.Setenv("HOME", "/root")
	}
	out, err := System{}.Run(context.Background(), Command("env"))
	if want := "PATH=" + path + "\nLC_ALL=C\n"; out != want || err != nil {
		t.Errorf("%q, %v", out, err)
	}
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	out, err := System{}.Run(context.Background(), sh("dd if=/dev/zero bs=65536 count=64 2>/dev/null"))
	if len(out) != maxOutput || err != nil {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

func TestLimitAndCancel(t *testing.T) {
	t.Parallel()
	began := time.Now()
	_, err := System{Limit: 50 * time.Millisecond}.Run(context.Background(), Command("sleep", "60"))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 10*time.Second {
		t.Errorf("limit: %v after %v", err, time.Since(began))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (System{}).Run(ctx, Command("sleep", "60")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A command that leaves a daemon behind, as jail(8) does, is not waited for, and has not failed.
func TestDaemonsLeftBehind(t *testing.T) {
	t.Parallel()
	began := time.Now()
	out, err := System{}.Run(context.Background(), sh("sleep 10 & echo started"))
	if took := time.Since(began); out != "started\n" || err != nil || took > 8*time.Second {
		t.Errorf("%q, %v after %v", out, err, took)
	}
}

// A command that ends by its limit ends with all that it started.
func TestChildrenAreNotLeftBehind(t *testing.T) {
	t.Parallel()
	fifo := filepath.Join(t.TempDir(), "alive") // open for writing as long as a child lives
	if err := exec.Command("mkfifo", fifo).Run(); err != nil {
		t.Skip(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := os.ReadFile(fifo)
		ended <- err
	}()
	began := time.Now()
	_, err := System{Limit: 200 * time.Millisecond}.Run(context.Background(),
		sh("(exec 3>'"+fifo+"'; sleep 60) & sleep 60"))
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 10*time.Second {
		t.Errorf("%v after %v", err, took)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("a child lives on")
	}
}

func TestLogHearsFirst(t *testing.T) {
	t.Parallel()
	var heard []string
	s := System{Log: func(c Cmd) { heard = append(heard, c.String()) }}
	_, _ = s.Run(context.Background(), Command("true"))
	_, _ = s.Run(context.Background(), Command("no-such-program"))
	if len(heard) != 2 || heard[0] != "true" {
		t.Error(heard)
	}
}

// A command reads what it is given, to the byte, even nothing; one that stops reading has not failed for it.
func TestStandardInput(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "a\x00b\n", strings.Repeat("x", 1<<18)} {
		c := Command("cat")
		c.Stdin, c.From = []byte(in), "rc.conf.d/it's"
		if out, err := (System{}).Run(context.Background(), c); out != in || err != nil {
			t.Errorf("%d bytes of %d, %v", len(out), len(in), err)
		}
		if got, want := c.String(), `cat < 'rc.conf.d/it'\''s'`; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	c := Command("true")
	c.Stdin = make([]byte, 4<<20)
	if _, err := (System{}).Run(context.Background(), c); err != nil {
		t.Error(err)
	}
}

// An unprivileged command of root's has nobody's user and group, and no other group; another user's is
// that user's.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	c := sh("id -u; id -g; id -G; pwd")
	c.Unprivileged = true
	out, err := System{}.Run(context.Background(), c)
	want := "65534\n65534\n65534\n/\n"
	if os.Geteuid() != 0 {
		want = ""
	}
	if err != nil || !strings.HasPrefix(out, want) {
		t.Errorf("%q, %v", out, err)
	}
}
