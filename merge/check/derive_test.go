package check

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cfgd/internal/run"
	"cfgd/merge"
)

// maker is a runner that makes files, as pwd_mkdb(8) does.
type maker struct {
	dir  string
	ran  []string
	read string
	err  error
}

func (m *maker) Run(_ context.Context, c run.Cmd) (string, error) {
	m.ran = append(m.ran, c.String())
	b, err := os.ReadFile(c.Args[len(c.Args)-1])
	m.read = string(b)
	for _, name := range []string{"passwd", "pwd.db", "spwd.db", "login.conf.db"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(m.dir, name), []byte("new "+name), 0o600))
	}
	return "", errors.Join(err, m.err)
}

func TestDerive(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "derive/vhost1")
	m := &maker{dir: dir}
	d := &Deriver{Run: m, Dir: dir, Has: func(string) bool { return true }}
	made, command, err := d.Derive(t.Context(), "master.passwd", []byte("root:x\n"))
	if err != nil || len(made) != 2 || string(made["spwd.db"]) != "new spwd.db" || m.read != "root:x\n" {
		t.Errorf("%q, %v; it read %q", made, err, m.read)
	}
	if want := "pwd_mkdb -p -d " + dir + " " + dir + "/master.passwd"; command != want || m.ran[0] != want {
		t.Errorf("%q, %q", command, m.ran)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("the directory with the passwords stays")
	}
	if _, command, _ = d.Derive(t.Context(), "login.conf", nil); command != "cap_mkdb "+dir+"/login.conf" {
		t.Errorf("%q", command)
	}
	want := "services_mkdb -q -o " + dir + "/services.db " + dir + "/services"
	if _, command, _ = d.Derive(t.Context(), "services", nil); command != want {
		t.Errorf("%q, want %q", command, want)
	}
	m.err = errors.New("line 3: corrupted")
	if _, _, err := d.Derive(t.Context(), "master.passwd", nil); err == nil ||
		!strings.Contains(err.Error(), "corrupted") {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Error("the directory stays after a failure")
	}
}

func TestDerivePlannedOrMissing(t *testing.T) {
	t.Parallel()
	m := &maker{}
	d := &Deriver{Run: m, Dir: "/run/derive", Dry: true, Has: func(string) bool { return true }}
	if _, command, err := d.Derive(t.Context(), "master.passwd", nil); !errors.Is(err, merge.ErrPlanned) ||
		command == "" {
		t.Errorf("%q, %v", command, err)
	}
	d.Has = func(string) bool { return false }
	for _, source := range []string{"master.passwd", "rc.conf", "mail/aliases"} {
		if _, _, err := d.Derive(t.Context(), source, nil); !errors.Is(err, exec.ErrNotFound) {
			t.Errorf("%s: %v", source, err)
		}
	}
	if len(m.ran) > 0 {
		t.Errorf("ran %q", m.ran)
	}
}
