package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/nano"
)

func checkCommand(s *session) *cli.Command {
	return &cli.Command{
		Name:  "check",
		Usage: "show the targets, their settings, and what is wrong",
		Description: "" +
			"Reads rc.conf, jail.conf, fstab and cfgd.toml as the daemon does, and changes nothing. " +
			"Prints each value with the file and line that it comes from, and each problem of the " +
			"set-up. Exit status 1 if there are warnings, 78 if a target can't be used.",
		Flags: []cli.Flag{&cli.BoolFlag{
			Name: "classes", Usage: "print the classes of paths and the checkers too",
		}},
		Action: s.action(runCheck),
	}
}

func runCheck(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	problems := m.Check(nil)
	for _, t := range m.Targets {
		problems = append(problems, m.overlay(t).Problems(c.Context, m.Root != "")...)
	}
	problems = append(problems, checkDisk(c.Context, m, s.warnMachine)...)
	if err := s.print(newChecked(m.Model, problems), func(b *strings.Builder) {
		printModel(b, m.Model, problems, c.Bool("classes"))
	}); err != nil {
		return err
	}
	return verdict(problems)
}

// checkDisk reads the disk as nano status does, if the configuration says that this is a NanoBSD machine.
func checkDisk(ctx context.Context, m *machine, warn func(string)) []conffile.Problem {
	n, err := m.Nano()
	if err != nil || n.Conf.File == "" {
		return nil // Check has reported it
	}
	var all []nano.Slice
	var t *nano.Table
	disk, err := m.disk(ctx, warn)
	if err == nil {
		all, t, err = disk.Slices(ctx)
	}
	if err != nil {
		return nano.Problems(n, err, m.Root != "")
	}
	return nano.NextProblems(n, all, t)
}

// verdict returns the error for the worst problem. All problems have been printed.
func verdict(problems []conffile.Problem) error {
	var err error
	for _, p := range problems {
		if p.Severity == conffile.SeverityError {
			return printedError{problemError{p}}
		}
		err = errDiffer
	}
	return err
}

// The types of the JSON that check prints.
type (
	checkJSON struct {
		Version  int                `json:"version"`
		Targets  []targetJSON       `json:"targets"`
		Jails    []jailJSON         `json:"jails"`
		Problems []conffile.Problem `json:"problems"`
	}
	jailJSON struct {
		Name     string   `json:"name"`
		Root     string   `json:"root"`
		Fstab    string   `json:"fstab"`
		Prestart []string `json:"prestart"`
		Poststop []string `json:"poststop"`
	}
	targetJSON struct {
		jailJSON
		Base   string            `json:"base"`
		Cfg    string            `json:"cfg"`
		Live   string            `json:"live"`
		Memory string            `json:"memory"`
		Origin map[string]string `json:"origin"`
	}
)

func newChecked(m *config.Model, problems []conffile.Problem) checkJSON {
	out := checkJSON{
		Version: 1, Targets: []targetJSON{}, Jails: []jailJSON{},
		Problems: append([]conffile.Problem{}, problems...),
	}
	for _, t := range m.Targets {
		j := targetJSON{jailJSON{t.Name, t.Root, t.Fstab, jsonList(t.Prestart), jsonList(t.Poststop)}, t.Base,
			t.Cfg, t.Live, string(m.Backing(t, nil)), map[string]string{}}
		for key, at := range t.Origin {
			j.Origin[key] = at.String()
		}
		out.Targets = append(out.Targets, j)
	}
	for _, j := range m.Jails {
		out.Jails = append(out.Jails,
			jailJSON{j.Name, j.Root, j.Fstab, jsonList(j.Prestart), jsonList(j.Poststop)})
	}
	return out
}

// jsonList returns a copy that JSON shows as [] if it is empty.
func jsonList(list []string) []string { return append([]string{}, list...) }

func printModel(b *strings.Builder, m *config.Model, problems []conffile.Problem, classes bool) {
	w := newTable()
	for _, t := range m.Targets {
		printTarget(w, t, m.Backing(t, nil))
	}
	for _, j := range m.Jails {
		w.row(j.Name + "  (a jail, no target)")
		w.row("  root", dash(j.Root), j.Origin["root"].String())
	}
	if classes {
		w.row("classes")
		for _, r := range m.Classes.Table() {
			w.row("  "+string(r.Class), r.Pattern, r.Reason)
		}
		w.row("checkers of merged files")
		for _, c := range m.Checkers.Table() {
			w.row("  "+cmp.Or(strings.Join(c.Command, " "), c.Syntax, "none"), c.Match, c.Reason)
		}
	}
	w.print(b)
	for _, p := range problems {
		fmt.Fprintln(b, p)
	}
	fmt.Fprintf(b, "%s, %s\n", countText(len(m.Targets), "target"), countText(len(problems), "problem"))
}

func printTarget(w *table, t *config.Target, memory config.Backing) {
	value := func(key, val string) {
		at := ""
		if o, ok := t.Origin[key]; ok {
			at = o.String()
		}
		w.row("  "+key, val, at)
	}
	w.row(t.Name)
	value("root", t.Root)
	value("base", t.Base)
	if t.BaseID != "" {
		value("base id", t.BaseID)
	}
	cfg := t.Cfg
	if t.CfgNoauto {
		cfg += " (mounted while a save needs it)"
	} else if t.CfgReadOnly {
		cfg += " (writable while a save needs it)"
	}
	value("cfg", cfg)
	value("live", fmt.Sprintf("%s (%s)", t.Live, memory))
	value("fstab", dash(t.Fstab))
	for _, c := range t.Prestart {
		value("prestart", c)
	}
	for _, c := range t.Poststop {
		value("poststop", c)
	}
	for _, key := range slices.Sorted(maps.Keys(t.Origin)) {
		if set := settingText(t, key); set != "" {
			value(key, set)
		}
	}
}

// settingText returns the value of a setting if cfgd.toml sets it, else "".
func settingText(t *config.Target, key string) string {
	switch key {
	case "settle":
		return t.Settle.String()
	case "max_wait":
		return t.MaxWait.String()
	case "rescan":
		return t.Rescan.String()
	case "rehash":
		return t.Rehash.String()
	case "memory_size":
		return bytesText(uint64(t.MemorySize))
	case "watch":
		return string(t.Watch)
	case "max_file":
		return bytesText(uint64(t.MaxFile))
	case "keep_generations":
		return fmt.Sprint(t.KeepGenerations)
	case "keep_bytes":
		return bytesText(uint64(t.KeepBytes))
	case "on_conflict":
		return string(t.OnConflict)
	case "health":
		return t.Health
	}
	return ""
}
