package jails

import (
	"fmt"
	"net/netip"
	"path"
	"regexp"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/config/fstab"
	"cfgd/prototype"
)

// Spec describes the jail to create.
type Spec struct {
	Name      string
	Hostname  string
	IP        string // one address; "" for none
	Interface string // "" leaves it out
	Prototype *config.Prototype
	Mark      string // of the prototype's snapshots
	Snapshot  string
	Dataset   string      // the prototype's; "" if it is not on ZFS
	Form      config.Form // of the lines that define it
	Listed    bool        // jail_list is set, and has to name it
	Embedded  bool        // nothing is mounted: the jail's trees are in its root

	more    []config.Param // what else defines it, in the words of Form
	noHooks bool           // its etc is on a disk
}

// ownTrees are the filesystems that belong to one jail, each with a mountpoint in the prototype.
var ownTrees = []string{"cfg", "var", "home"}

var (
	// the name becomes part of the names of rc.conf's variables
	jailName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,62}$`)
	hostName  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$`)
	netDevice = regexp.MustCompile(`^[a-z][a-z0-9_.]{0,14}$`)
)

func (s *Spec) check() error {
	switch {
	case !jailName.MatchString(s.Name) || s.Name == config.HostName:
		return fmt.Errorf("%q cannot be a jail's name: letters, digits and _", s.Name)
	case !hostName.MatchString(s.Hostname):
		return fmt.Errorf("%q is no host name", s.Hostname)
	case s.Interface != "" && !netDevice.MatchString(s.Interface):
		return fmt.Errorf("%q is no network interface", s.Interface)
	}
	if _, err := netip.ParseAddr(s.IP); s.IP != "" && err != nil {
		return fmt.Errorf("%q is no address: %w", s.IP, err)
	}
	return nil
}

// start returns the part that is the same for every jail: its name, root and fstab.
func (s *Spec) start(now time.Time) *Creation {
	root := "/jail"
	if s.Prototype != nil {
		root = path.Dir(s.Prototype.Root)
	}
	return &Creation{Jail: s.Name, Time: now.UTC(), Root: path.Join(root, s.Name), base: s.Prototype,
		onSnapshot: s.Snapshot}
}

// Plan computes what has to be made for a new jail (the paper's section 3.6).
func (s *Spec) Plan(now time.Time) (*Creation, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	c := s.start(now)
	var tab fstabText
	tab.line(s.Prototype.Root+s.Mark+s.Snapshot, c.Root, "nullfs", "ro")
	tab.line(s.Prototype.Etc(s.Mark, s.Snapshot), c.Root+"/conf/base/etc", "nullfs", "ro")
	if s.Dataset != "" {
		own := path.Join(path.Dir(s.Dataset), s.Name)
		c.Datasets = append(c.Datasets, Dataset{Name: own})
		for _, r := range ownTrees {
			c.Datasets = append(c.Datasets, Dataset{Name: own + "/" + r})
			tab.line(own+"/"+r, c.Root+"/"+r, "zfs", "rw")
		}
	} else {
		own, in := ownDir(c.Root), ownDir(c.Root)
		if s.Embedded {
			in = c.Root
		} else {
			c.Dirs = append(c.Dirs, Dir{Name: own})
		}
		for _, r := range ownTrees {
			c.Dirs = append(c.Dirs, Dir{Name: in + "/" + r})
			tab.line(own+"/"+r, c.Root+"/"+r, "nullfs", "rw")
		}
	}
	c.Files = s.files(c, tab.String())
	return c, nil
}

// mountpoints are the directories of a prototype on which its jails mount something.
var mountpoints = []string{"etc", "cfg", "var", "home", "conf/base/etc"}

// private are the trees of a prototype that its jails do not see, with the last part of their datasets'
// names.
var private = [][2]string{{"var", "_var"}, {"usr/src", "_src"}, {"usr/ports", "_ports"}, {"usr/obj", "_obj"}}

// PlanPrototype computes what has to be made for a new prototype (the paper's section 3.3). With a
// dataset the system and its etc are two filesystems, one below the other, so that a recursive snapshot
// has both; the others are beside them. file is the cfgd.toml that makes the prototype known.
func (s *Spec) PlanPrototype(file string, now time.Time) (*Creation, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	c := s.start(now)
	c.Prototype, s.noHooks = true, true
	section := fmt.Sprintf("# cfgd proto create %s\n[prototype.%[1]s]\nroot = %q\n", s.Name, c.Root)
	if s.Dataset != "" {
		if !prototype.DatasetName.MatchString(s.Dataset) || path.Clean(s.Dataset) != s.Dataset {
			return nil, fmt.Errorf("%q is no dataset: POOL/NAME", s.Dataset)
		}
		section += fmt.Sprintf("dataset = %q\n", s.Dataset)
		c.Datasets = []Dataset{
			{Name: s.Dataset, Mountpoint: c.Root}, {Name: s.Dataset + "/etc", Mountpoint: inherit},
		}
		for _, p := range private {
			c.Datasets = append(c.Datasets, Dataset{Name: s.Dataset + p[1], Mountpoint: c.Root + "/" + p[0]})
		}
	}
	for _, dir := range mountpoints {
		c.Dirs = append(c.Dirs, Dir{Name: c.Root + "/" + dir})
	}
	section += fmt.Sprintf("# cfgd proto create %s: end\n", s.Name)
	c.Files = append(s.files(c, "# filesystems of "+s.Name+
		" that are not ZFS's own, such as: localhost:/FreeBSD "+c.Root+"/FreeBSD nfs rw 0 0\n"), File{
		Name: file, Text: section,
	})
	return c, nil
}

// ownDir returns the directory in which a jail without ZFS has its own trees, to be mounted in its root.
func ownDir(root string) string { return path.Dir(root) + "/.cfgd/" + path.Base(root) }

// fstabText is an fstab being written.
type fstabText struct{ strings.Builder }

func (b *fstabText) line(source, dir, kind, options string) {
	fmt.Fprintf(b, "%s %s %s %s 0 0\n", fstab.Encode(source), fstab.Encode(dir), kind, options)
}

// files adds the fstab and the definition of the jail.
func (s *Spec) files(c *Creation, fstab string) []File {
	tab := File{Name: "/etc/fstab." + s.Name, Text: fstab, Whole: true}
	if s.Form != config.FormJailConf {
		return []File{tab, {Name: rcConf, Text: s.between(s.list() + s.rcLines(c.Root, tab.Name))}}
	}
	all := []File{
		tab, {Name: "/etc/jail.conf.d/" + s.Name + ".conf", Text: s.jailConf(c.Root, tab.Name), Whole: true},
	}
	if s.Listed {
		all = append(all, File{Name: rcConf, Text: s.between(s.list())})
	}
	return all
}

const rcConf = "/etc/rc.conf"

func (s *Spec) list() string { return fmt.Sprintf("jail_list=\"$jail_list %s\"\n", s.Name) }

// between puts lines of rc.conf between two comments that mark them.
func (s *Spec) between(lines string) string {
	return fmt.Sprintf("# cfgd jail create %s\n%s# cfgd jail create %[1]s: end\n", s.Name, lines)
}

// Hooks of a new jail. jail(8) runs them with a PATH of its own, without /usr/local.
const (
	initCommand    = "/usr/local/sbin/cfgd jail init "
	cleanupCommand = "/usr/local/sbin/cfgd jail cleanup "
)

// rcLines returns the lines that define a jail in rc.conf.
func (s *Spec) rcLines(root, fstab string) string {
	var b strings.Builder
	set := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "jail_%s_%s=%s\n", s.Name, key, shellQuote(value))
		}
	}
	set("rootdir", root)
	set("hostname", s.Hostname)
	set("ip", s.IP)
	set("interface", s.Interface)
	if s.more == nil {
		set("devfs_enable", "YES")
		set("mount_enable", "YES")
	}
	for _, p := range s.more {
		set(p.Name, p.Values[0])
	}
	set("fstab", fstab)
	if !s.noHooks {
		set("exec_prestart0", initCommand+s.Name)
		set("exec_poststop0", cleanupCommand+s.Name)
	}
	return b.String()
}

// shellQuote quotes a value of rc.conf, as sysrc(8) does.
func shellQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s) + `"`
}

// jailConf returns the text that defines a jail in a file of its own. The file is complete, because
// rc.d/jail reads no other.
func (s *Spec) jailConf(root, fstab string) string {
	var b strings.Builder
	set := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "\t%s = %s;\n", key, jailQuote(value))
		}
	}
	fmt.Fprintf(&b, "# cfgd jail create %s\n%[1]s {\n", s.Name)
	set("path", root)
	set("host.hostname", s.Hostname)
	if addr, err := netip.ParseAddr(s.IP); err == nil {
		key := "ip4.addr"
		if addr.Is6() {
			key = "ip6.addr"
		}
		set(key, s.IP)
	}
	set("interface", s.Interface)
	set("mount.fstab", fstab)
	if !s.noHooks {
		set("exec.prepare", cleanupCommand+s.Name)
		set("exec.prestart", initCommand+s.Name)
		set("exec.poststop", cleanupCommand+s.Name)
	}
	more := s.more
	if more == nil {
		more = []config.Param{{Name: "exec.clean"}, {Name: "exec.start", Values: []string{"/bin/sh /etc/rc"}},
			{Name: "exec.stop", Values: []string{"/bin/sh /etc/rc.shutdown jail"}}, {Name: "mount.devfs"}}
	}
	for _, p := range more {
		if len(p.Values) == 0 {
			fmt.Fprintf(&b, "\t%s;\n", p.Name)
		}
		for i, v := range p.Values {
			op := "="
			if i > 0 {
				op = "+="
			}
			fmt.Fprintf(&b, "\t%s %s %s;\n", p.Name, op, jailQuote(v))
		}
	}
	b.WriteString("}\n")
	return b.String()
}

// jailQuote quotes a value of jail.conf(5). Variables are not expanded in single quotes.
func jailQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
