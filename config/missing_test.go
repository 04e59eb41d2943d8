package config

import (
	"strings"
	"testing"

	"cfgd/config/conffile"
)

// problem returns one that a hook's edit would settle.
func problem(kind conffile.Kind, target string, line int) conffile.Problem {
	return conffile.Warn(kind, conffile.At("/etc/jail.conf", line), target, "mend it", "at line %d", line)
}

// A problem is the same one whatever its line is after the edits, and however it is worded.
func TestSettled(t *testing.T) {
	t.Parallel()
	web := problem(conffile.NoInitHook, "web", 1).
		SettledBy(conffile.Edit{File: "/etc/jail.conf", Line: 1, New: "x"})
	twice := func(line int) conffile.Problem { return problem(conffile.DefinedTwice, "db", line) }
	target := func(name, value string) *Target {
		return &Target{Name: name, Definition: Definition{Params: []Param{{name, []string{value}}}}}
	}
	model := func(targets []*Target, ps ...conffile.Problem) *Model {
		return &Model{Targets: targets, Problems: ps, Enabled: true}
	}
	both := []*Target{target("web", "a"), target("db", "a")}
	before := model(both, web, twice(7))
	for name, c := range map[string]struct {
		now  *Model
		want string
	}{
		"settled, and the other moved": {model(both, twice(8)), ""},
		"the jail itself changed":      {model([]*Target{target("web", "b"), both[1]}, twice(8)), ""},
		"another problem of the jail":  {model(both, problem(conffile.ForeignHook, "web", 2), twice(8)), ""},
		"not settled": {
			model(both, problem(conffile.NoInitHook, "web", 2)), "did not settle",
		},
		"a second of the same kind": {model(both, twice(8), twice(9)), "bring another problem"},
		"a problem of another jail": {
			model(both, problem(conffile.NoInitHook, "db", 3)), "bring another problem",
		},
		"another jail changed": {model([]*Target{both[0], target("db", "b")}), "change db as well"},
		"a jail is gone":       {model(both[1:]), "change web as well"},
	} {
		switch err := before.Settled(c.now, before.Missing()); {
		case c.want == "" && err != nil, c.want != "" &&
			(err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
