package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/overlay"
)

func (s *session) checkCommand() *cli.Command {
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
		Action: s.check,
	}
}

func (s *session) check(c *cli.Context) error {
	if err := counted(c, 0, 0); err != nil {
		return err
	}
	m, err := s.model()
	if err != nil {
		return err
	}
	problems := append(m.Check(nil), s.checkTrees(c.Context, m)...)
	problems = append(problems, s.checkDisk(c.Context, m)...)
	if s.json {
		err = s.print(checked(m, problems))
	} else {
		err = printModel(s.out, m, problems, c.Bool("classes"))
	}
	if err != nil {
		return err
	}
	return verdict(problems)
}

// checkTrees looks at each target as status does, and changes nothing. It finds a base that does not exist, a
// cfg that can't be read, and a damaged store. A jail that is down need not have anything mounted.
func (s *session) checkTrees(ctx context.Context, m *config.Model) []conffile.Problem {
	var out []conffile.Problem
	for _, t := range m.Targets {
		v, err := s.overlay(t).Look(ctx, overlay.LookOptions{})
		at := t.Origin["base"]
		switch {
		case err != nil && s.isDown(t) && (m.Root == "" || s.noCfg(t)):
			// the start mounts or makes what is missing
		case err != nil:
			out = append(out, conffile.Problem{
				Severity: conffile.SeverityError, File: at.File, Line: at.Line, Target: t.Name,
				Message: t.Name + ": " + err.Error(), Fix: "mount or make it, or mend the line",
			})
		default:
			for _, n := range v.Notices {
				out = append(out, conffile.Problem{
					Severity: conffile.SeverityWarning, File: t.Cfg, Target: t.Name, Message: n,
					Fix: "run: cfgd save " + t.Name,
				})
			}
		}
	}
	return out
}

// checkDisk looks at the disk as nano status does, if the configuration says that this is a NanoBSD machine.
func (s *session) checkDisk(ctx context.Context, m *config.Model) []conffile.Problem {
	n, err := m.Nano()
	if err != nil || n.Conf.File == "" {
		return nil // Check has reported it
	}
	disk, err := s.nano(ctx)
	if err == nil {
		_, _, err = disk.Slices(ctx)
	}
	if err == nil || m.Root != "" && errors.Is(err, fs.ErrNotExist) {
		return nil // below --root there need not be a disk
	}
	if errors.Is(err, fs.ErrPermission) {
		return nil // only root may read the disk
	}
	return []conffile.Problem{{
		Severity: conffile.SeverityWarning, File: n.Origin.File, Line: n.Origin.Line, Target: config.HostName,
		Message: "cfgd nano does not serve this machine: " +
			strings.TrimPrefix(err.Error(), n.Origin.String()+": "),
		Fix: "make fstab and " + n.Conf.String() + " name the disk that the machine runs from",
	}}
}

func (s *session) isDown(t *config.Target) bool {
	st, err := s.overlay(t).State()
	return err == nil && !st.Populated
}

func (s *session) noCfg(t *config.Target) bool {
	d, err := s.overlay(t).OpenCfg()
	d.Close()
	return err != nil
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

func checked(m *config.Model, problems []conffile.Problem) checkJSON {
	out := checkJSON{
		Version: 1, Targets: []targetJSON{}, Jails: []jailJSON{},
		Problems: append([]conffile.Problem{}, problems...),
	}
	for _, t := range m.Targets {
		j := targetJSON{jailJSON{t.Name, t.Root, t.Fstab, words(t.Prestart), words(t.Poststop)}, t.Base,
			t.Cfg, t.Live, string(m.Backing(t, nil)), map[string]string{}}
		for key, at := range t.Origin {
			j.Origin[key] = at.String()
		}
		out.Targets = append(out.Targets, j)
	}
	for _, j := range m.Jails {
		out.Jails = append(out.Jails, jailJSON{j.Name, j.Root, j.Fstab, words(j.Prestart), words(j.Poststop)})
	}
	return out
}

// words returns a copy that JSON shows as [] if it is empty.
func words(list []string) []string { return append([]string{}, list...) }

func printModel(out io.Writer, m *config.Model, problems []conffile.Problem, classes bool) error {
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
	if err := w.print(out); err != nil {
		return err
	}
	for _, p := range problems {
		if _, err := fmt.Fprintln(out, p); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(out, "%s, %s\n", count(len(m.Targets), "target"), count(len(problems), "problem"))
	return err
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

// count returns a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
