package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode"

	"cfgd/config/conffile"
	"cfgd/config/fstab"
)

// hostFstab is read by mount(8); the other fstabs are read by jail(8).
const hostFstab = "/etc/fstab"

// host adds the machine's own /etc if NanoBSD's defaults exist, or if cfgd.toml names a base.
func (l *loader) host() {
	const base = "/conf/base/etc"
	sec := l.conf.host
	_, named := sec.path("base")
	if !named && !l.read.IsDir(base) {
		return
	}
	t := &Target{Name: HostName, Root: "/", Base: base, Cfg: "/cfg", Live: "/etc", Fstab: hostFstab,
		Prestart: []string{}, Poststop: []string{}, Origin: map[string]conffile.Origin{}}
	l.setPaths(t, sec)
	entries, err := l.fstab(t.Fstab, fstab.Parse)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.problem(conffile.ProblemOf(err, t.Fstab, t.Name, "mend it"))
		return
	}
	l.checkDoubled(t.Name, mountsOf(t.Fstab, entries))
	l.checkHostFstab(t, entries)
	l.finish(t, sec)
}

// checkHostFstab finds how cfg is mounted. NanoBSD mounts it noauto, only while it is needed.
func (l *loader) checkHostFstab(t *Target, entries []fstab.Entry) {
	for _, e := range entries {
		if path.Clean(e.Dir) != t.Cfg {
			continue
		}
		t.CfgMount, t.CfgNoauto, t.CfgReadOnly = true, e.Has("noauto"), e.Has("ro")
		if !t.CfgNoauto && !t.CfgReadOnly {
			l.problem(conffile.Warn(conffile.CfgAlwaysMounted, conffile.At(t.Fstab, e.Line), t.Name,
				"add noauto to its options, as NanoBSD does: a power cut then finds it unmounted",
				"%s is mounted all the time", t.Cfg).SettledBy(conffile.Edit{
				File: t.Fstab, Line: e.Line, Old: strings.Join(e.Options, ","),
				New: strings.Join(append(slices.Clone(e.Options), "noauto"), ","),
			}))
		}
	}
}

// jail decides whether a jail is a target, and adds it to one of the two lists.
func (l *loader) jail(d *jailDef) {
	sec := l.conf.jails[d.name]
	before := len(l.errs)
	t, err := l.jailTarget(d, sec)
	switch {
	case err != nil:
		l.problem(*err)
		l.jails = append(l.jails, d.jail())
	case t == nil:
		l.jails = append(l.jails, d.jail())
		l.unusedSection(d, sec)
		l.unusedHook(d)
	default:
		l.checkHooks(t, d)
		l.checkListed(d)
		if !l.finish(t, sec) && len(l.errs) == before {
			l.jails = append(l.jails, d.jail())
		}
	}
}

// unusedHook warns of a jail of rc.conf that has the init hook but no base; jail.conf may give the hook
// to all jails.
func (l *loader) unusedHook(d *jailDef) {
	if d.rcPrefix == "" || !hasHook(d.prestart, hookInit) || len(d.fstabs) == 0 ||
		!l.read.Exists(d.fstabs[0]) {
		return
	}
	base := path.Join(d.root, "conf/base/etc")
	l.problem(conffile.Warn(conffile.InitHookWithoutBase, d.origin["prestart"], d.name,
		fmt.Sprintf("mount the defaults on %s in %s, or remove the hook", base, d.fstabs[0]),
		"jail %s has an init hook, but its fstab mounts nothing on %s", d.name, base))
}

// checkListed warns of a target of jail.conf that jail_list lacks. Without jail_list, or with an empty
// one, rc.d/jail starts all jails of jail.conf. Jails of rc.conf were checked before.
func (l *loader) checkListed(d *jailDef) {
	if d.rcPrefix == "" && len(l.list.names) > 0 && !l.list.has[jailName(d.name)] {
		l.problem(conffile.Warn(conffile.NotInJailList, d.origin["jail"], d.name, l.list.howToAdd(d.name),
			"jail %s is not in jail_list and will not be started", d.name).SettledBy(listEdit(d.name)))
	}
}

// unusedSection warns of settings for a jail that is no target; only health applies to any jail.
func (l *loader) unusedSection(d *jailDef, sec *section) {
	if sec == nil || len(sec.settings) == 0 && len(sec.paths) == 0 || l.troubled(d.name) {
		return
	}
	l.problem(conffile.Warn(conffile.SettingsWithoutTarget, sec.at, d.name, "give base in [jail."+d.name+
		"], or remove the table",
		"jail %s is no target: its fstab mounts nothing on %s", d.name, path.Join(d.root, "conf/base/etc")))
}

// jailTarget makes a target of a jail whose fstab mounts a base, or for which cfgd.toml names one. It
// returns nil for a jail that is no target.
func (l *loader) jailTarget(d *jailDef, sec *section) (*Target, *conffile.Problem) {
	t := &Target{
		Name:       d.name,
		Root:       d.root,
		Prestart:   conffile.Values(d.prestart),
		Poststop:   conffile.Values(d.poststop),
		Origin:     maps.Clone(d.origin),
		Definition: d.def,
	}
	_, rootGiven := sec.path("root")
	_, baseGiven := sec.path("base")
	l.setRoot(t, sec)
	// jail.conf's jails may share the machine's own root, and then its /etc too.
	if t.Root == "" || t.Root == "/" && d.rcPrefix == "" && !rootGiven {
		return nil, nil
	}
	if p := l.checkRoot(t); p != nil {
		return nil, p
	}
	mounts, p := l.jailMounts(d)
	if p != nil {
		return nil, p
	}
	l.checkDoubled(t.Name, mounts)
	base := l.baseMount(t, mounts)
	if base == nil && !rootGiven && !baseGiven {
		return nil, nil
	}
	if err := checkJailName(t.Name); err != nil {
		p := conffile.Refuse(conffile.BadName, t.Origin["root"], t.Name, "rename the jail", "%v", err)
		return nil, &p
	}
	if base != nil {
		if why, fix := oddPath(base.Source); why != "" {
			p := conffile.Refuse(conffile.BadPath, base.at, t.Name, fix, "base %q %s", base.Source, why)
			return nil, &p
		}
		l.useBaseMount(t, base)
	}
	if t.Fstab == "" && len(d.fstabs) > 0 {
		t.Fstab = d.fstabs[0]
	}
	l.checkMounts(t, mounts, base)
	l.setPaths(t, sec)
	for _, m := range mounts { // the last one hides the others
		if l.on(m, t.Cfg) {
			t.CfgMount, t.CfgSource, t.CfgType, t.CfgLine = true, m.Source, m.Type, m.at
		}
	}
	return t, nil
}

// checkRoot reports a jail whose root is not a directory of its own.
func (l *loader) checkRoot(t *Target) *conffile.Problem {
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

// oddPath returns what is wrong with an absolute path below which cfgd would write, and what to do, or
// "". ".." after a link leads elsewhere than its name says, and a newline would forge lines of logs and
// lists.
func oddPath(p string) (why, fix string) {
	switch {
	case slices.Contains(strings.Split(p, "/"), ".."):
		return "leads through ..", "write it without .."
	case strings.ContainsFunc(p, unicode.IsControl):
		return "has a control character in it", "write a plain path"
	}
	return "", ""
}

// setRoot sets the root from cfgd.toml, and the other paths that follow from it.
func (l *loader) setRoot(t *Target, sec *section) {
	if r, ok := sec.path("root"); ok {
		t.Root, t.Origin["root"] = r.Value, r.At
	}
	if t.Root != "" {
		t.Base, t.Cfg, t.Live = path.Join(t.Root, "conf/base/etc"), path.Join(t.Root,
			"cfg"), path.Join(t.Root, "etc")
	}
}

// setPaths sets base, cfg and live from cfgd.toml.
func (l *loader) setPaths(t *Target, sec *section) {
	for key, to := range map[string]*string{"base": &t.Base, "cfg": &t.Cfg, "live": &t.Live} {
		if p, ok := sec.path(key); ok {
			*to, t.Origin[key] = p.Value, p.At
			if key == "base" {
				t.BaseID = baseID(p.Value)
			}
		}
	}
}

// added makes targets of the jails that only cfgd.toml names.
func (l *loader) added() {
	known := map[string]bool{}
	for _, d := range l.defs {
		known[d.name] = true
	}
	for _, name := range sorted(l.conf.jails) {
		if known[name] {
			continue
		}
		sec := l.conf.jails[name]
		_, rooted := sec.path("root")
		if !rooted && l.troubled(name) {
			continue
		}
		if !rooted {
			l.fail(sec.at, "give its root, or mend the name",
				"jail %s is neither in rc.conf nor in jail.conf", name)
			continue
		}
		d := &jailDef{name: name, origin: map[string]conffile.Origin{}}
		t, p := l.jailTarget(d, sec)
		if p != nil {
			l.fail(conffile.At(p.File, p.Line), p.Fix, "%s", p.Message)
			continue
		}
		l.finish(t, sec)
	}
}

// troubled reports whether a jail is missing because of a problem that was reported already. Then
// cfgd.toml is not at fault.
func (l *loader) troubled(name string) bool {
	return l.rc.Unknown("jail_"+jailVar(name)+"_rootdir") ||
		slices.ContainsFunc(l.problems, func(p conffile.Problem) bool {
			return p.Target == name && p.Severity == conffile.SeverityError
		})
}

// finish applies the settings and adds the target. It returns false if the target cannot be used.
func (l *loader) finish(t *Target, sec *section) bool {
	t.Settings = defaultSettings(t.Host())
	for _, s := range []*section{l.conf.defaults, sec} {
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
	t.Classes, t.Checkers = l.classes, l.checkers
	if !l.checkTimes(t) || !l.backing(t) || !l.checkTrees(t) {
		return false
	}
	l.targets = append(l.targets, t)
	return true
}

// checkTimes reports a settle time longer than max_wait: max_wait would always come first.
func (l *loader) checkTimes(t *Target) bool {
	if t.Settle <= t.MaxWait {
		return true
	}
	at := cmp.Or(t.Origin["settle"], t.Origin["max_wait"])
	l.fail(at, "make max_wait the longer one", "settle %s of %s is longer than max_wait %s", t.Settle, t.Name,
		t.MaxWait)
	return false
}

// backing resolves the setting memory. Below --root it is always a directory, because nothing is mounted
// there.
func (l *loader) backing(t *Target) bool {
	switch {
	case l.opts.Root != "":
		t.Memory = BackingDir
	case t.Memory == BackingMD && l.opts.GOOS != "freebsd":
		l.fail(t.Origin["memory"], `write memory = "auto" or "tmpfs"`,
			"memory disks (md) are FreeBSD's, and this is %s", l.opts.GOOS)
		return false
	case t.Memory != BackingAuto:
	case l.opts.GOOS == "freebsd":
		t.Memory = BackingMD
	case l.opts.GOOS == "linux" && l.opts.Euid == 0:
		t.Memory = BackingTmpfs
	default:
		t.Memory = BackingDir
	}
	return true
}

// fstab reads and parses an fstab.
func (l *loader) fstab(file string,
	parse func(string, []byte) ([]fstab.Entry, error)) ([]fstab.Entry, error) {
	if !path.IsAbs(file) {
		return nil, &conffile.Error{
			File:    file,
			Message: "not an absolute path",
			Fix:     "write the whole path of the fstab",
		}
	}
	data, err := l.read.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parse(file, data)
}
