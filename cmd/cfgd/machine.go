package main

import (
	"context"
	"errors"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/mount"
	sysrun "cfgd/internal/run"
	"cfgd/jailhooks"
	"cfgd/jails"
	"cfgd/merge"
	"cfgd/merge/check"
	"cfgd/nano"
	"cfgd/overlay"
	"cfgd/prototype"
	"cfgd/watcher/control"
)

// machine is the machine that a command works on: its model, and what each package needs to work on it. With
// --root it is a directory, where nothing is mounted and no command is run.
type machine struct {
	*config.Model
	load  func() (*config.Model, error)
	bases *overlay.Bases
}

func newMachine(m *config.Model, load func() (*config.Model, error)) *machine {
	return &machine{m, load, overlay.NewBases()}
}

// rescueDir is where cleanup puts archives of what it could not save.
const rescueDir = "/var/db/cfgd/rescue"

// everyJail is the word for all targets that are jails.
const everyJail = "ALL"

// choose returns the targets with these names, or all targets if there are none. The error has those that a
// problem of the set-up excludes; the others are returned nevertheless if all are meant.
func (m *machine) choose(names []string) ([]*config.Target, error) {
	if len(names) == 0 {
		var excluded []error
		for _, p := range m.Errors() {
			// for other targets only the jail's start is wrong; check reports it
			if m.Target(p.Target) == nil {
				excluded = append(excluded, problemError{p})
			}
		}
		if len(m.Targets) == 0 && len(excluded) == 0 {
			return nil, usagef("no targets on this machine: no /conf/base/etc, and no jail whose fstab " +
				"mounts something on its conf/base/etc; cfgd check shows what was found")
		}
		return m.Targets, errors.Join(excluded...)
	}
	var out []*config.Target
	for _, n := range names {
		t, err := m.find(n)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// find returns one target.
func (m *machine) find(name string) (*config.Target, error) {
	if t := m.Target(name); t != nil {
		return t, nil
	}
	for _, p := range m.Errors() {
		if p.Target == name {
			return nil, problemError{p}
		}
	}
	for _, j := range m.Jails {
		if j.Name == name {
			return nil, usagef("%s is a jail but no target: its fstab mounts nothing on its conf/base/etc",
				name)
		}
	}
	return nil, usagef("no target %q; cfgd check lists them", name)
}

// jails returns the named targets, which must be jails, or all jails for ALL.
func (m *machine) jails(names []string) ([]*config.Target, error) {
	var out []*config.Target
	if len(names) == 1 && names[0] == everyJail {
		all, err := m.choose(nil)
		if err != nil {
			return nil, err
		}
		for _, t := range all {
			if !t.Host() {
				out = append(out, t)
			}
		}
		return out, nil
	}
	for _, n := range names {
		t, err := m.find(n)
		switch {
		case err != nil:
			return nil, err
		case t.Host():
			return nil, usagef("the host is no jail: cfgd nano switches its images")
		}
		out = append(out, t)
	}
	return out, nil
}

// eachTarget runs f for every target at the same time, and returns the errors in the order of the targets.
func eachTarget(targets []*config.Target, f func(i int, t *config.Target) error) []error {
	errs := make([]error, len(targets))
	var g errgroup.Group
	g.SetLimit(max(runtime.NumCPU(), 2))
	for i, t := range targets {
		g.Go(func() error { errs[i] = f(i, t); return nil })
	}
	_ = g.Wait() // the errors are in errs
	return errs
}

// overlay returns the three trees of a target. It opens nothing yet.
func (m *machine) overlay(t *config.Target) *overlay.Overlay {
	o := overlay.New(m.Model, t)
	o.Bases = m.bases
	o.MountCfg = mountCfg(m.Model, t)
	o.Tools = m.tools(t, false)
	return o
}

// planning returns the trees of a target for plans of merges: the programs that a merge needs are only named.
func (m *machine) planning(t *config.Target) *overlay.Overlay {
	o := m.overlay(t)
	o.Tools = m.tools(t, true)
	return o
}

// tools returns the programs that a merge needs. If planned is set, they are only named.
func (m *machine) tools(t *config.Target, planned bool) merge.Tools {
	checkers := &check.Checkers{Checkers: t.Checkers, Classes: t.Classes}
	if m.Root != "" {
		return merge.Tools{Check: checkers.Check}
	}
	checkers.Run = sysrun.System{}
	d := &check.Deriver{
		Run: sysrun.System{}, Dir: m.Path("/var/run/cfgd/derive/" + t.Name), Dry: planned, Has: sysrun.Has,
	}
	return merge.Tools{Check: checkers.Check, Derive: d.Derive}
}

// mountCfg returns the function that mounts a cfg on demand; nil if it is always mounted.
func mountCfg(m *config.Model, t *config.Target) func(context.Context, bool) (func() error, error) {
	if m.Root != "" || !t.CfgNoauto && !t.CfgReadOnly {
		return nil
	}
	c := &mount.OnDemand{Dir: t.Cfg, RunDir: m.RunDir(), Run: sysrun.System{}, Mounted: mount.On}
	if t.CfgReadOnly {
		c.ReadOnly = readOnly
	}
	return c.Mount
}

// readOnly reports whether the filesystem that is mounted on a directory is read-only.
func readOnly(dir string) (bool, error) {
	d, err := dirfd.Open(dir, nil)
	if err != nil {
		return false, err
	}
	defer d.Close()
	space, err := d.Space()
	return space.ReadOnly, err
}

// client returns the client of the machine's daemon.
func (m *machine) client() *control.Client { return control.NewClient(m.RunDir()) }

// saver saves through the daemon, or directly if there is none.
func (m *machine) saver() control.Saver {
	return control.Saver{Client: m.client(), Overlay: m.overlay}
}

// host returns the host as a target; nil if its /etc is none.
func (m *machine) host() *config.Target { return m.Target(config.HostName) }

// hostSaver returns the function that saves a file of the host's /etc; nil if the host is no target.
func (m *machine) hostSaver() func(context.Context, string) error {
	if m.host() == nil {
		return nil
	}
	return m.saver().Files(m.host())
}

// hooks returns the hooks of a jail's start and stop.
func (m *machine) hooks(t *config.Target) *jailhooks.Hooks {
	return &jailhooks.Hooks{
		Target: t, Overlay: m.overlay(t), Run: sysrun.System{}, Daemon: control.Optional{Client: m.client()},
		Mounted: mount.On, GOOS: runtime.GOOS,
		Embedded: m.Root != "", RescueDir: m.Path(rescueDir), Now: time.Now,
	}
}

// service starts and stops jails.
func (m *machine) service() jails.Jails {
	if m.Root != "" {
		return jails.Embedded{Hooks: m.hooks}
	}
	return jails.Service{Run: sysrun.System{Limit: 5 * time.Minute}}
}

// switcher switches jails to other snapshots.
func (m *machine) switcher() *jails.Switcher {
	return &jails.Switcher{
		Model: m.Model, Reload: m.load, Jails: m.service(), Now: time.Now, SaveHost: m.hostSaver(),
		Overlay: func(_ *config.Model, t *config.Target) *overlay.Overlay { return m.planning(t) },
	}
}

// creator makes and destroys jails.
func (m *machine) creator() *jails.Creator {
	return &jails.Creator{Model: m.Model, Run: sysrun.System{}, SaveHost: m.hostSaver(), Reload: m.load}
}

// prototype returns the named prototype, or the only one if none is named.
func (m *machine) prototype(names []string) (*config.Prototype, error) {
	all, err := m.prototypes(names)
	if err == nil && len(all) > 1 {
		return nil, usagef("which prototype? cfgd proto list lists them")
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// prototypes returns the named prototype, or all if none is named.
func (m *machine) prototypes(names []string) ([]*config.Prototype, error) {
	if len(names) == 0 {
		if len(m.Prototypes) == 0 {
			return nil, usagef("no prototypes: no jail's fstab names a snapshot; cfgd check shows what " +
				"was found")
		}
		return m.Prototypes, nil
	}
	for _, p := range m.Prototypes {
		if p.Name == names[0] {
			return []*config.Prototype{p}, nil
		}
	}
	return nil, usagef("no prototype %q; cfgd proto list lists them", names[0])
}

// prototypeTree returns the named prototype, whose root must be known.
func (m *machine) prototypeTree(name string) (*config.Prototype, error) {
	p, err := m.prototype([]string{name})
	if err == nil && p.Root == "" {
		return nil, usagef("no prototype %q; cfgd proto list lists them", name)
	}
	return p, err
}

// snapshots returns the snapshots of a prototype: of ZFS if its root is a dataset, else copies.
func (m *machine) snapshots(p *config.Prototype) (prototype.Snapshots, error) {
	return prototype.Opener{
		Prototype: p, Root: m.Path(p.Root), Embedded: m.Root != "", Run: sysrun.System{},
		Holding: mount.Holding, References: m.References,
	}.Open()
}

// disk finds the disk of a NanoBSD host.
func (m *machine) disk(ctx context.Context, warn func(text string)) (*nano.Disk, error) {
	n, err := m.Nano()
	if err != nil {
		return nil, err
	}
	d := &nano.Disk{
		Nano: *n, Root: m.Path("/"), RunDir: m.RunDir(), Run: sysrun.System{}, Command: m.Root == "",
		Mounted: mount.All, MountedOn: mount.On, Warn: warn,
	}
	if m.Root != "" {
		d.Mounted = func() ([]mount.Mount, error) { return nil, nil }
		d.MountedOn = func(string) ([]mount.Mount, error) { return nil, nil }
	}
	return d, d.Find(ctx, m.Path("/dev"))
}

// trials returns the trials of the host's systems; nil if the host is no target.
func (m *machine) trials(d *nano.Disk) *nano.Trials {
	host := m.host()
	if host == nil {
		return nil
	}
	note := m.overlay(host).TrialNote()
	return d.TrialsOf(host, note.Read, note.Write)
}
