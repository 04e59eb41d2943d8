package config

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/rcconf"
)

// hostFstab is read by mount(8); the other fstabs are read by jail(8).
const hostFstab = "/etc/fstab"

// targetMaker makes the targets of a machine, of what its files say about the host and about each jail.
type targetMaker struct {
	conffile.Findings
	opts     Options
	read     *conffile.Files
	conf     *tomlConf
	rc       *rcconf.Conf
	list     jailList
	classes  *Classes
	checkers *Checkers

	targets []*Target
	jails   []*Jail // that are no targets

	hostMounts Mounts
	hidden     []*Jail
	unread     Unread // what keeps a jail's mounts from being known
}

// host adds the machine's own /etc if NanoBSD's defaults exist, or if cfgd.toml names a base.
func (m *targetMaker) host() {
	const base = "/conf/base/etc"
	at := conffile.Located{Value: hostFstab, At: conffile.At(hostFstab, 0)}
	m.hostMounts = mountSources{read: m.read, fstabs: []conffile.Located{at}}.mounts()
	sec := m.conf.host
	_, named := sec.path("base")
	if !named && !m.read.IsDir(base) {
		return
	}
	t := &Target{Name: HostName, Root: "/", Base: base, Cfg: "/cfg", Live: "/etc", Fstab: hostFstab,
		Prestart: []string{}, Poststop: []string{}, Origin: map[string]conffile.Origin{}}
	setPaths(t, sec)
	t.Mounts = m.hostMounts
	if len(t.Mounts.Fstabs) == 0 && len(t.Mounts.Unread) > 0 { // whether it mounts cfg is not known
		m.Add(conffile.ProblemOf(t.Mounts.Unread[0], t.Fstab, t.Name, ""))
		return
	}
	m.Add(t.Mounts.doubled(t.Name)...)
	m.Add(t.Mounts.unused(t)...)
	m.Add(setCfgMount(t)...)
	m.finish(t, sec)
}

// unused warns of the lines of /etc/fstab that mount(8) does not take. A line may be turned off on purpose;
// that of cfg is needed.
func (t Mounts) unused(host *Target) (ps []conffile.Problem) {
	report := func(e *conffile.Error, m *MountLine) {
		at := conffile.At(e.File, e.Line)
		if m != nil && path.Clean(m.Dir) == host.Cfg {
			ps = append(ps, conffile.Refuse(conffile.UnusedLine, at, host.Name, e.Fix,
				"%s: mount(8) cannot mount %s by this line", e.Message, host.Cfg))
			return
		}
		ps = append(ps, conffile.Warn(conffile.UnusedLine, at, host.Name, e.Fix,
			"%s: mount(8) passes over the line", e.Message))
	}
	lines := map[int]*MountLine{}
	for i, m := range t.All {
		lines[m.Line] = &t.All[i]
	}
	for _, e := range t.Unread {
		report(e, lines[e.Line])
		delete(lines, e.Line)
	}
	for _, m := range lines {
		if m.Unused != "" && (!m.Has("xx") || path.Clean(m.Dir) == host.Cfg) {
			report(conffile.Errorf(m.At, "write rw or ro among its options", "%s", m.Unused), m)
		}
	}
	return ps
}

// setCfgMount records how the host's cfg is mounted. NanoBSD mounts it noauto, only while it is needed. A
// line that mount(8) does not take says that cfg is a filesystem, and can't be used to mount it.
func setCfgMount(t *Target) (ps []conffile.Problem) {
	for _, e := range t.Mounts.All {
		if path.Clean(e.Dir) != t.Cfg {
			continue
		}
		t.CfgMount, t.CfgLine = true, e.At
		if e.Unused != "" {
			continue
		}
		t.CfgNoauto, t.CfgReadOnly = e.Has("noauto"), e.Has("ro")
		if !t.CfgNoauto && !t.CfgReadOnly {
			options := strings.Join(e.Options, ",")
			ps = append(ps, conffile.Warn(conffile.CfgAlwaysMounted, e.At, t.Name,
				"add noauto to its options, as NanoBSD does: a power cut then finds it unmounted",
				"%s is mounted all the time", t.Cfg).SettledBy(conffile.Edit{
				File: t.Fstab, Line: e.Line, Old: options, New: options + ",noauto"}))
		}
	}
	return ps
}

// jail decides whether a jail is a target, and adds it to one of the two lists.
func (m *targetMaker) jail(d *jailDef) {
	sec := m.conf.jails[d.name]
	before := len(m.Errors)
	t, err := m.jailTarget(d, sec)
	switch {
	case err != nil:
		m.Add(*err)
		m.jails = append(m.jails, d.jail())
	case t == nil:
		m.jails = append(m.jails, d.jail())
		m.unusedSection(d, sec)
		m.unusedHook(d)
	default:
		m.Add(checkHooks(m.rc, t, d)...)
		m.checkListed(d)
		if !m.finish(t, sec) && len(m.Errors) == before {
			m.jails = append(m.jails, d.jail())
		}
	}
}

// unusedHook warns of a jail of rc.conf that has the init hook but no base; jail.conf may give the hook
// to all jails.
func (m *targetMaker) unusedHook(d *jailDef) {
	if d.rcPrefix == "" || !hasHook(d.prestart, hookInit) || len(d.fstabs) == 0 ||
		!m.read.Exists(d.fstabs[0].Value) {
		return
	}
	base := baseDir(d.root)
	m.Add(conffile.Warn(conffile.InitHookWithoutBase, d.origin["prestart"], d.name,
		fmt.Sprintf("mount the defaults on %s in %s, or remove the hook", base, d.fstabs[0].Value),
		"jail %s has an init hook, but its fstab mounts nothing on %s", d.name, base))
}

// checkListed warns of a target of jail.conf that jail_list lacks. Without jail_list, or with an empty
// one, rc.d/jail starts all jails of jail.conf. Jails of rc.conf were checked before.
func (m *targetMaker) checkListed(d *jailDef) {
	if d.rcPrefix == "" && len(m.list.names) > 0 && !m.list.has[jailName(d.name)] {
		m.Add(conffile.Warn(conffile.NotInJailList, d.origin["jail"], d.name, m.list.howToAdd(d.name),
			"jail %s is not in jail_list and will not be started", d.name).SettledBy(listEdit(d.name)))
	}
}

// unusedSection warns of settings for a jail that is no target; only health applies to any jail.
func (m *targetMaker) unusedSection(d *jailDef, sec *section) {
	if sec == nil || len(sec.settings) == 0 && len(sec.paths) == 0 || m.troubled(d.name) {
		return
	}
	m.Add(conffile.Warn(conffile.SettingsWithoutTarget, sec.at, d.name,
		"give base in [jail."+d.name+"], or remove the table",
		"jail %s is no target: its fstab mounts nothing on %s", d.name, baseDir(d.root)))
}

// jailTarget makes a target of a jail whose fstab mounts a base, or for which cfgd.toml names one. It
// returns nil for a jail that is no target.
func (m *targetMaker) jailTarget(d *jailDef, sec *section) (*Target, *conffile.Problem) {
	t := &Target{
		Name:       d.name,
		Root:       d.root,
		Prestart:   conffile.Values(d.prestart),
		Poststop:   conffile.Values(d.poststop),
		Origin:     maps.Clone(d.origin),
		Definition: d.def,
		Mounts:     d.mounts,
	}
	_, rootGiven := sec.path("root")
	_, baseGiven := sec.path("base")
	setRoot(t, sec)
	// jail.conf's jails may share the machine's own root, and then its /etc too.
	if t.Root == "" || t.Root == "/" && d.rcPrefix == "" && !rootGiven {
		return nil, nil
	}
	if p := checkRoot(t); p != nil {
		return nil, p
	}
	mounts := d.mounts
	missing, p := mounts.problems(d)
	m.Add(missing...)
	if p != nil {
		return nil, p
	}
	m.Add(mounts.doubled(t.Name)...)
	base := mounts.last(baseDir(t.Root))
	if base == nil && !rootGiven && !baseGiven {
		return nil, nil
	}
	if p := checkUsable(t, base); p != nil {
		return nil, p
	}
	if base != nil {
		setBase(t, base)
	}
	if t.Fstab == "" && len(d.fstabs) > 0 {
		t.Fstab = d.fstabs[0].Value
	}
	m.Add(mounts.check(t, base)...)
	setPaths(t, sec)
	if cfg := mounts.last(t.Cfg); cfg != nil {
		t.CfgMount, t.CfgSource, t.CfgType, t.CfgLine = true, cfg.Source, cfg.Type, cfg.At
	}
	return t, nil
}

// checkUsable reports a jail whose name or base cannot be a target's. base may be nil.
func checkUsable(t *Target, base *MountLine) *conffile.Problem {
	if err := checkJailName(t.Name); err != nil {
		p := conffile.Refuse(conffile.BadName, t.Origin["root"], t.Name, "rename the jail", "%v", err)
		return &p
	}
	if base == nil {
		return nil
	}
	why, fix := oddPath(base.Source)
	if why == "" {
		return nil
	}
	p := conffile.Refuse(conffile.BadPath, base.At, t.Name, fix, "base %q %s", base.Source, why)
	return &p
}

// setBase sets base and base id from the line that mounts it. If the source is no path (a dataset's
// snapshot), the base is read at its mountpoint.
func setBase(t *Target, base *MountLine) {
	t.BaseID = baseID(base.Source)
	t.Origin["base"] = base.At
	if path.IsAbs(base.Source) {
		t.Base = path.Clean(base.Source)
	}
	t.Fstab = base.Fstab
}

// checkRoot reports a jail whose root is not a directory of its own.
func checkRoot(t *Target) *conffile.Problem {
	at, written := t.Origin["root"], t.Root
	why, fix := oddPath(written)
	t.Root = path.Clean(written)
	switch {
	case !path.IsAbs(t.Root) || t.Root == "/":
		why, fix = "is not a directory of its own", "give the whole path of the jail's root directory"
	case why == "":
		return nil
	}
	p := conffile.Refuse(conffile.BadPath, at, t.Name, fix, "root %q of jail %s %s", written, t.Name, why)
	return &p
}

// setRoot sets the root from cfgd.toml, and the other paths that follow from it.
func setRoot(t *Target, sec *section) {
	if r, ok := sec.path("root"); ok {
		t.Root, t.Origin["root"] = r.Value, r.At
	}
	if t.Root != "" {
		t.Base, t.Cfg, t.Live = baseDir(t.Root), path.Join(t.Root, "cfg"), path.Join(t.Root, "etc")
	}
}

// setPaths sets base, cfg and live from cfgd.toml.
func setPaths(t *Target, sec *section) {
	for key, to := range map[string]*string{"base": &t.Base, "cfg": &t.Cfg, "live": &t.Live} {
		if p, ok := sec.path(key); ok {
			*to, t.Origin[key] = p.Value, p.At
			if key == "base" {
				t.BaseID = baseID(p.Value)
			}
		}
	}
}

// added makes targets of the jails that cfgd.toml names and defs lack.
func (m *targetMaker) added(defs []*jailDef) {
	known := map[string]bool{}
	for _, d := range defs {
		known[d.name] = true
	}
	for _, name := range sorted(m.conf.jails) {
		if known[name] {
			continue
		}
		sec := m.conf.jails[name]
		_, rooted := sec.path("root")
		if !rooted && m.troubled(name) {
			continue
		}
		if !rooted {
			m.Fail(sec.at, "give its root, or mend the name",
				"jail %s is neither in rc.conf nor in jail.conf", name)
			continue
		}
		d := &jailDef{name: name, origin: map[string]conffile.Origin{}}
		d.mounts.from.read = m.read
		t, p := m.jailTarget(d, sec)
		if p != nil {
			m.Fail(conffile.At(p.File, p.Line), p.Fix, "%s", p.Message)
			continue
		}
		m.finish(t, sec)
	}
}

// troubled reports whether a jail is missing because of a problem that was reported already. Then
// cfgd.toml is not at fault.
func (m *targetMaker) troubled(name string) bool {
	return m.rc.Unknown("jail_"+jailVar(name)+"_rootdir") ||
		slices.ContainsFunc(m.Problems, func(p conffile.Problem) bool {
			return p.Target == name && p.Severity == conffile.SeverityError
		})
}

// finish applies the settings and adds the target. It returns false if the target cannot be used.
func (m *targetMaker) finish(t *Target, sec *section) bool {
	t.Settings = defaultSettings(t.Host())
	for _, s := range []*section{m.conf.defaults, sec} {
		if s == nil {
			continue
		}
		for _, set := range s.settings {
			set.apply(&t.Settings)
			t.Origin[set.key] = set.at
		}
	}
	if sec != nil && sec.health.Value != "" {
		t.Health, t.Origin["health"] = sec.health.Value, sec.health.At
	}
	t.Classes, t.Checkers = m.classes, m.checkers
	if !m.checkTimes(t) || !m.backing(t) || !m.apart(t) {
		return false
	}
	m.targets = append(m.targets, t)
	return true
}

// checkTimes reports a settle time longer than max_wait: max_wait would always come first.
func (m *targetMaker) checkTimes(t *Target) bool {
	if t.Settle <= t.MaxWait {
		return true
	}
	at := cmp.Or(t.Origin["settle"], t.Origin["max_wait"])
	m.Fail(at, "make max_wait the longer one", "settle %s of %s is longer than max_wait %s", t.Settle, t.Name,
		t.MaxWait)
	return false
}

// backing resolves the setting memory. Below --root it is always a directory, because nothing is mounted
// there.
func (m *targetMaker) backing(t *Target) bool {
	switch {
	case m.opts.Root != "":
		t.Memory = BackingDir
	case t.Memory == BackingMD && m.opts.GOOS != "freebsd":
		m.Fail(t.Origin["memory"], `write memory = "auto" or "tmpfs"`,
			"memory disks (md) are FreeBSD's, and this is %s", m.opts.GOOS)
		return false
	case t.Memory != BackingAuto:
	case m.opts.GOOS == "freebsd":
		t.Memory = BackingMD
	case m.opts.GOOS == "linux" && m.opts.Euid == 0:
		t.Memory = BackingTmpfs
	default:
		t.Memory = BackingDir
	}
	return true
}

// apart reports a target whose own trees overlap.
func (m *targetMaker) apart(t *Target) bool {
	x, y, clash := ownOverlap(treesOf(m.read, t))
	if clash {
		reportOverlap(&m.Findings, m.conf.file, x, y)
	}
	return !clash
}

// dropOverlaps takes out each target whose trees overlap those of one before it.
func (m *targetMaker) dropOverlaps() {
	m.targets = dropOverlaps(m.read, m.targets, func(t *Target, x, y targetDir) {
		reportOverlap(&m.Findings, m.conf.file, x, y)
		m.jails = append(m.jails, &Jail{Name: t.Name, Root: t.Root, Fstab: t.Fstab, Prestart: t.Prestart,
			Poststop: t.Poststop, Origin: t.Origin, Mounts: t.Mounts})
	})
}
