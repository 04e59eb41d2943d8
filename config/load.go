package config

import (
	"cmp"
	"os"
	"runtime"
	"slices"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/rcconf"
)

// Options are what Load reads, and for which system.
type Options struct {
	Root string // --root: every path of the system is taken below this directory; "" for the running machine
	File string // --config: a file named as the shell sees it; "" for DefaultFile below Root, if it is there
	GOOS string // whose backing memory = "auto" means; "" for the system that runs
	Euid int    // likewise; -1 for the user who runs
}

// Load reads the machine's set-up and cfgd.toml, and returns all targets and jails with every problem found.
//
// An error is a *conffile.Error or conffile.Errors, with file, line and what to do: a malformed rc.conf,
// jail.conf or cfgd.toml, or a cfgd.toml that contradicts itself or the machine. If one target cannot be
// used (its fstab is malformed, its trees overlap another's), that is a Problem of severity Error: the
// target is left out, and the others stay.
func Load(opts Options) (*Model, error) {
	read, err := conffile.Open(opts.Root)
	if err != nil {
		return nil, &conffile.Error{
			File:    opts.Root,
			Message: err.Error(),
			Fix:     "give --root an existing directory",
			Err:     err,
		}
	}
	l := &loader{opts: opts.resolved(), read: read}
	if err := l.load(); err != nil {
		return nil, err
	}
	return l.model(), nil
}

// resolved fills in the running system's values.
func (o Options) resolved() Options {
	o.GOOS = cmp.Or(o.GOOS, runtime.GOOS)
	if o.Euid < 0 {
		o.Euid = os.Geteuid()
	}
	return o
}

// loader holds the state of one Load.
type loader struct {
	opts Options
	read *conffile.Files

	conf     *tomlConf
	rc       *rcconf.Conf
	classes  *Classes
	checkers *Checkers
	defs     []*jailDef
	list     jailList

	targets  []*Target
	jails    []*Jail
	problems []conffile.Problem
	errs     []*conffile.Error
}

// load runs the steps in the order of their dependencies.
func (l *loader) load() error {
	var err error
	if l.conf, err = loadToml(l.read, l.opts.File); err != nil {
		return err
	}
	l.classes = newClasses(l.conf.rules)
	l.checkers = newCheckers(l.conf.checkers)
	if err := l.readJails(); err != nil {
		return err
	}
	l.host()
	for _, d := range l.defs {
		l.jail(d)
	}
	l.added()
	l.overlaps()
	return conffile.Join(l.errs)
}

// model assembles the parts in the order of all output.
func (l *loader) model() *Model {
	byName := func(a, b string) int { return strings.Compare(a, b) }
	slices.SortFunc(l.targets, func(a, b *Target) int {
		if a.Host() != b.Host() {
			if a.Host() {
				return -1
			}
			return 1
		}
		return byName(a.Name, b.Name)
	})
	slices.SortFunc(l.jails, func(a, b *Jail) int { return byName(a.Name, b.Name) })
	return &Model{
		Root: l.opts.Root, File: l.conf.file,
		Targets: l.targets, Jails: l.jails, Prototypes: l.prototypes(),
		JailList: l.list.names, Enabled: l.rc.Yes("cfgd_enable"), Classes: l.classes,
		Checkers: l.checkers, Problems: conffile.SortProblems(l.problems),
	}
}

func (l *loader) problem(p conffile.Problem) { l.problems = append(l.problems, p) }

// fail records an error of cfgd.toml.
func (l *loader) fail(at conffile.Origin, fix, format string, args ...any) {
	l.errs = append(l.errs, conffile.Errorf(at, fix, format, args...))
}

// readJails finds every jail of rc.conf and jail.conf.
func (l *loader) readJails() error {
	rc, err := rcconf.Load(l.read)
	if err != nil {
		return err
	}
	f := &jailFinder{rc: rc, read: l.read}
	if l.defs, err = f.find(); err != nil {
		return err
	}
	l.rc, l.list = rc, f.list
	l.problems = slices.Concat(l.problems, rc.Problems, f.problems)
	return nil
}
