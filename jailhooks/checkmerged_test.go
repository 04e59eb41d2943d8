package jailhooks

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/internal/machinetest"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// runs is a function as a runner. What a checker rejects in the jail's own root is a conflict after all,
// unless it rejects what was there before as well.
func TestCheckedInTheJailsRoot(t *testing.T) {
	t.Parallel()
	failed := exec.Command("sh", "-c", "exit 1").Run()
	const old, mine, theirs = "Port 22\na\nb\nc\nUsePAM yes\n", "Port 2222\na\nb\nc\nUsePAM yes\n", "Port " +
		"22\na\nb\nc\nUsePAM no\n"
	const merged = "Port 2222\na\nb\nc\nUsePAM no\n"
	for _, c := range []struct {
		rejects   func(content string) bool
		want      string
		conflicts int
	}{
		{func(string) bool { return false }, merged, 0},
		{func(content string) bool { return content == merged }, mine, 1},
		{func(string) bool { return true }, merged, 0},
	} {
		m := newMachine(t, "freebsd", config.BackingMD)
		m.write("base/ssh/sshd_config", old)
		m.write("base2/ssh/sshd_config", theirs)
		m.write("base2/rc.conf", "hostname=\"proto\"\n")
		m.init()
		m.edit("ssh/sshd_config", mine)
		m.cleanup()
		m.target.Base, m.target.BaseID = m.path("base2"), "proto/etc@2"
		var asked []string
		h := m.hooks()
		h.Run = machinetest.Runner(func(ctx context.Context, cmd run.Cmd) (string, error) {
			if cmd.Name != "jail" {
				return m.Run(ctx, cmd)
			}
			asked = append(asked, cmd.String())
			if c.rejects(m.live()["ssh/sshd_config"]) {
				return "", &run.Error{Cmd: cmd, Stderr: "line 5: bad", Err: failed}
			}
			return "", nil
		})
		s, err := h.Init(t.Context())
		m.must(err)
		if got := m.live()["ssh/sshd_config"]; got != c.want {
			t.Errorf("live: %q, want %q", got, c.want)
		}
		if want := "jail -c path=" + m.target.Root +
			" ip4=disable ip6=disable command=sshd -t -f /etc/ssh/sshd_config"; len(asked) == 0 ||
			asked[0] != want {
			t.Errorf("%q, want %q", asked, want)
		}
		v, err := m.hooks().Overlay.Look(t.Context(), overlay.LookOptions{})
		m.must(err)
		if len(v.Conflicts()) != c.conflicts || len(v.Unsaved) > 0 {
			t.Errorf("%+v, unsaved %v", v.Conflicts(), v.Unsaved)
		}
		if said := strings.Join(s.Warnings, ""); strings.Contains(said,
			"sshd -t -f FILE: line 5: bad; a conflict") != (c.conflicts > 0) {
			t.Errorf("%q", said)
		}
	}
}
