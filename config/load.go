package config

import (
	"cmp"
	"maps"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/rcconf"
)

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
	conf, err := loadToml(read, opts.File)
	if err != nil {
		return nil, err
	}
	rc, err := rcconf.Load(read)
	if err != nil {
		return nil, err
	}
	find := &jailFinder{rc: rc, read: read}
	defs, err := find.find()
	if err != nil {
		return nil, err
	}
	m := &targetMaker{
		opts: opts.resolved(), read: read, conf: conf, rc: rc, list: find.list,
		classes: newClasses(conf.rules), checkers: newCheckers(conf.checkers),
	}
	m.Add(rc.Problems...)
	m.Add(find.Problems...)
	m.host()
	for _, d := range defs {
		m.jail(d)
	}
	m.added(defs)
	m.dropOverlaps()
	m.unread = find.unread()
	for _, d := range find.hidden {
		m.hidden = append(m.hidden, d.jail())
	}
	if err := conffile.Join(m.Errors); err != nil {
		return nil, err
	}
	return m.model(), nil
}

// model assembles the parts in the order of all output.
func (m *targetMaker) model() *Model {
	slices.SortFunc(m.targets, func(a, b *Target) int {
		switch {
		case a.Host() == b.Host():
			return strings.Compare(a.Name, b.Name)
		case a.Host():
			return -1
		}
		return 1
	})
	slices.SortFunc(m.jails, func(a, b *Jail) int { return strings.Compare(a.Name, b.Name) })
	protos := findPrototypes(m.conf.protos, m.targets)
	for _, p := range protos {
		if p.Root != "" {
			p.real = m.read.Real(p.Root)
		}
	}
	return &Model{
		host: m.hostMounts, hidden: m.hidden, unread: m.unread, read: m.read,
		Root: m.opts.Root, File: m.conf.file, Targets: m.targets, Jails: m.jails,
		Prototypes: protos, JailList: m.list.names,
		Enabled: m.rc.Yes("cfgd_enable"), Classes: m.classes, Checkers: m.checkers,
		Problems: conffile.SortProblems(m.Problems),
	}
}

// resolved fills in the running system's values.
func (o Options) resolved() Options {
	o.GOOS = cmp.Or(o.GOOS, runtime.GOOS)
	if o.Euid < 0 {
		o.Euid = os.Geteuid()
	}
	return o
}

// findPrototypes returns those of cfgd.toml and the trees whose snapshots are the targets' bases. If two
// trees have the same name, the second is named by its whole path.
func findPrototypes(named []Prototype, targets []*Target) []*Prototype {
	byName := map[string]*Prototype{}
	for _, p := range named {
		byName[p.Name] = &p
	}
	roots := prototypeRoots(targets)
	for _, root := range sorted(roots) {
		name := path.Base(root)
		if p := byName[name]; p != nil && p.Root != "" && p.Root != root {
			name = strings.TrimPrefix(root, "/")
		}
		p := byName[name]
		if p == nil {
			p = &Prototype{Name: name, Origin: map[string]conffile.Origin{}}
			byName[name] = p
		}
		if p.Root == "" {
			p.Root, p.Origin["root"] = root, roots[root]
		}
	}
	return slices.SortedFunc(maps.Values(byName), func(a, b *Prototype) int {
		return strings.Compare(a.Name, b.Name)
	})
}

// prototypeRoots returns the trees whose snapshots are the targets' bases, and where each is named first.
func prototypeRoots(targets []*Target) map[string]conffile.Origin {
	roots := map[string]conffile.Origin{}
	for _, t := range targets {
		s, ok := ParseSnapshot(t.Base)
		if !ok || !path.IsAbs(s.Tree) {
			continue
		}
		if _, known := roots[s.Prototype()]; !known {
			roots[s.Prototype()] = t.Origin["base"]
		}
	}
	return roots
}
