package jails

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"cfgd/config"
	"cfgd/config/fstab"
)

// Clone computes a test jail: clones of another jail's filesystems as they are now, all that it mounts in
// one fstab on another snapshot of the prototype, and an address of its own (the paper's section 2.4). If
// nothing is mounted, the jail's own trees are copied from where they are.
func (s *Spec) Clone(from *config.Target, mounts config.Mounts, now time.Time) (*Creation, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.Name == from.Name {
		return nil, fmt.Errorf("%s cannot be its own clone", s.Name)
	}
	if err := mounts.Whole(); err != nil {
		return nil, err
	}
	c := s.start(now)
	x := &cloner{spec: s, from: from, c: c}
	for _, e := range mounts.All {
		if err := x.mount(e.Entry); err != nil {
			return nil, fmt.Errorf("%s: %w", e.At, err)
		}
	}
	if s.Embedded {
		x.copied(from.Cfg)
	}
	x.parents()
	s.take(from, c)
	c.Files = s.files(c, x.tab.String())
	return c, nil
}

// cloner is the state of computing a clone.
type cloner struct {
	spec *Spec
	from *config.Target
	c    *Creation
	tab  fstabText
}

// pseudo are the filesystem types of which each mount is independent, or a view of the running system.
var pseudo = []string{"devfs", "fdescfs", "procfs", "linprocfs", "linsysfs", "tmpfs", "mqueuefs"}

// mount adds one line of the fstab to the clone.
func (x *cloner) mount(e fstab.Entry) error {
	dir, ok := x.moved(path.Clean(e.Dir))
	if !ok {
		return fmt.Errorf("%s is not in the jail's root %s: a clone cannot have it too", e.Dir, x.from.Root)
	}
	source, options := e.Source, e.Options
	if strings.Contains(e.Type+strings.Join(options, ","), "#") {
		return fmt.Errorf("%s has # in its type or options, where an fstab cannot have it", e.Dir)
	}
	snap, isSnap := config.ParseSnapshot(source)
	switch {
	case isSnap && x.spec.Prototype.Has(snap):
		source = snap.At(x.spec.Snapshot).String()
	case slices.Contains(pseudo, e.Type):
	case e.Type == "zfs" && !x.spec.Embedded:
		to, err := x.dataset(source)
		if err != nil {
			return err
		}
		source = to
	case strings.HasPrefix(source, ownDir(x.from.Root)+"/"), e.Type == "zfs":
		source = x.own(e, source)
	case !slices.Contains(options, "ro"):
		options = readOnly(options)
		x.c.Notes = append(x.c.Notes, fmt.Sprintf(
			"%s is shared with %s, so that it is read-only in the clone", source, x.from.Name,
		))
	}
	x.tab.line(source, dir, e.Type, strings.Join(options, ","))
	return nil
}

// moved returns the clone's path for a path of the jail.
func (x *cloner) moved(p string) (string, bool) {
	rest, ok := strings.CutPrefix(p, strings.TrimSuffix(x.from.Root, "/"))
	return x.c.Root + rest, ok && (rest == "" || rest[0] == '/')
}

// dataset clones a dataset. The clone's name has the new jail's name in place of the old one's.
func (x *cloner) dataset(name string) (string, error) {
	to, err := x.renamed(name)
	if err != nil {
		return "", err
	}
	snap := name + "@clone-" + x.spec.Name
	x.c.Snapshots = append(x.c.Snapshots, snap)
	x.c.Datasets = append(x.c.Datasets, Dataset{Name: to, Origin: snap})
	return to, nil
}

func (x *cloner) renamed(name string) (string, error) {
	parts := strings.Split(name, "/")
	i := slices.Index(parts, x.from.Name)
	if i < 1 || strings.HasPrefix(name, "/") || strings.Contains(name, "@") {
		return "",
			fmt.Errorf("dataset %s does not have the jail's name in it, as POOL/%s/…: what its clone "+
				"should be called is not known", name, x.from.Name)
	}
	parts[i] = x.spec.Name
	return strings.Join(parts, "/"), nil
}

// parents adds the datasets above the clones, starting with the one that has the jail's name.
func (x *cloner) parents() {
	var all []Dataset
	known := map[string]bool{}
	for _, d := range x.c.Datasets {
		known[d.Name] = true
	}
	for _, d := range x.c.Datasets {
		parts := strings.Split(d.Name, "/")
		for i := slices.Index(parts, x.spec.Name) + 1; i < len(parts); i++ {
			if p := strings.Join(parts[:i], "/"); !known[p] {
				known[p] = true
				all = append(all, Dataset{Name: p})
			}
		}
	}
	all = append(all, x.c.Datasets...)
	slices.SortStableFunc(all, func(a, b Dataset) int {
		return strings.Count(a.Name, "/") - strings.Count(b.Name, "/")
	})
	x.c.Datasets = all
}

// own copies a tree of the jail that is no dataset.
func (x *cloner) own(e fstab.Entry, source string) string {
	if x.spec.Embedded {
		x.copied(path.Clean(e.Dir))
	}
	to, err := x.renamed(strings.TrimPrefix(source, "/"))
	if err != nil {
		return source
	}
	if strings.HasPrefix(source, "/") {
		to = "/" + to
		if !x.spec.Embedded {
			if top := ownDir(x.c.Root); !slices.ContainsFunc(x.c.Dirs, func(d Dir) bool {
				return d.Name == top
			}) {
				x.c.Dirs = append(x.c.Dirs, Dir{Name: top})
			}
			x.c.Dirs = append(x.c.Dirs, Dir{to, source})
		}
	}
	return to
}

// copied copies a tree that is in the jail's root.
func (x *cloner) copied(dir string) {
	to, ok := x.moved(dir)
	if ok && !slices.ContainsFunc(x.c.Dirs, func(d Dir) bool { return d.Name == to }) {
		x.c.Dirs = append(x.c.Dirs, Dir{to, dir})
	}
}

func readOnly(options []string) []string {
	out := []string{"ro"}
	for _, o := range options {
		if o != "rw" {
			out = append(out, o)
		}
	}
	return out
}

// taken are the parameters, in either form, that a clone takes from the jail. Names, addresses, paths,
// hooks and logs are its own.
var taken = map[config.Form]*regexp.Regexp{
	config.FormRC: regexp.MustCompile(`^(interface|devfs_enable|devfs_ruleset|fdescfs_enable|procfs_enable|` +
		`mount_enable|exec|exec_start|exec_stop|exec_afterstart[0-9]*|` +
		`flags|fib|parameters|socket_unixiproute_only|set_hostname_allow|sysvipc_allow|enforce_statfs|` +
		`osreldate|osrelease)$`),
	config.FormJailConf: regexp.MustCompile(`^(interface|exec\.(clean|start|stop|timeout|fib|system_user|` +
		`jail_user|system_jail_user)|stop\.timeout|mount\.(devfs|fdescfs|procfs)|nomount\..*|` +
		`devfs_ruleset|enforce_statfs|children\.max|securelevel|sysvmsg|sysvsem|sysvshm|osreldate|` +
		`osrelease|persist|nopersist|(allow|linux)(\..*)?)$`),
}

// take copies the rest of the jail's definition. A parameter that contains the jail's name is left out,
// with a notice, because both jails would share what it names. In jail.conf(5), and so in rc.conf's
// parameters, a space may be written as \040.
func (s *Spec) take(from *config.Target, c *Creation) {
	s.more = []config.Param{}
	named := regexp.MustCompile(`(\b|\\[0-7]{1,3})` + regexp.QuoteMeta(from.Name) + `\b`)
	for _, p := range from.Definition.Params {
		switch {
		case s.Form != from.Definition.Form || !taken[s.Form].MatchString(p.Name), p.Name == "interface" &&
			s.Interface != "":
		case slices.ContainsFunc(p.Values, named.MatchString):
			c.Notes = append(
				c.Notes, fmt.Sprintf("%s of %s names it, and is not taken over", p.Name, from.Name),
			)
		case slices.ContainsFunc(p.Values, func(v string) bool {
			return strings.ContainsFunc(v, unicode.IsControl)
		}):
			c.Notes = append(c.Notes, fmt.Sprintf(
				"%s of %s has control characters in it, and is not taken over", p.Name, from.Name,
			))
		default:
			s.more = append(s.more, p)
		}
	}
}

// ErrNoAddress reports that a clone has no address of its own.
var ErrNoAddress = errors.New(
	"give it an address of its own with --ip: two jails on one take each other's connections",
)

// CloneOf reads the fstabs of a jail and computes its clone.
func (k *Creator) CloneOf(s *Spec, from *config.Target, now time.Time) (*Creation, error) {
	if s.IP == "" {
		return nil, ErrNoAddress
	}
	mounts := from.Mounts.Again()
	if len(mounts.All) == 0 && len(mounts.Unread) == 0 {
		return nil, fmt.Errorf("%s has no fstab: there is nothing to clone by", from.Name)
	}
	return s.Clone(from, mounts, now)
}
