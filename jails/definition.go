package jails

import (
	"fmt"
	"net/netip"
	"strings"

	"cfgd/config"
	"cfgd/config/fstab"
)

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
