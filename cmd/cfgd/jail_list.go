package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/internal/pathname"
	"cfgd/overlay"
)

func jailListCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list all jails, and which of them are targets",
		Description: "" +
			"Prints one line for each jail of rc.conf and jail.conf. A target is a jail whose /etc cfgd " +
			"saves, because its fstab mounts something on its conf/base/etc. STATE says whether its /etc " +
			"is populated (a jail that does not run is down), BASE which snapshot its fstab mounts.",
		Action: s.action(runJailList),
	}
}

// listedJail is the JSON of a jail.
type listedJail struct {
	Name   string `json:"name"`
	Root   string `json:"root"`
	Target bool   `json:"target"`
	Base   string `json:"base,omitempty"`
	State  string `json:"state"` // populated, down, or "" if it is no target
}

func runJailList(s *session, _ *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	list := []listedJail{}
	var failed error
	for _, t := range m.Targets {
		if t.Host() {
			continue
		}
		state, err := stateOf(m.overlay(t))
		failed = errors.Join(failed, err)
		list = append(list, listedJail{t.Name, t.Root, true, cmp.Or(t.BaseID, t.Base), state})
	}
	for _, j := range m.Jails {
		list = append(list, listedJail{Name: j.Name, Root: j.Root})
	}
	slices.SortFunc(list, func(a, b listedJail) int { return pathname.Compare(a.Name, b.Name) })
	if err := s.print(struct {
		Version int          `json:"version"`
		Jails   []listedJail `json:"jails"`
	}{1, list}, func(b *strings.Builder) { printJails(b, list) }); err != nil {
		return err
	}
	return failed
}

func stateOf(o *overlay.Overlay) (string, error) {
	st, err := o.State()
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", o.Target.Name, err)
	case st.Populated:
		return "populated", nil
	}
	return "down", nil
}

func printJails(b *strings.Builder, list []listedJail) {
	w := newTable()
	w.row("JAIL", "STATE", "BASE", "ROOT")
	for _, j := range list {
		state := j.State
		if !j.Target {
			state = "no target"
		}
		w.row(j.Name, state, dash(j.Base), dash(j.Root))
	}
	w.print(b)
}
