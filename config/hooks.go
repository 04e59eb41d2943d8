package config

import (
	"fmt"
	"path"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/rcconf"
)

// hook is one of cfgd's two hooks in a jail's commands.
type hook string

const (
	hookNone    hook = ""
	hookInit    hook = "init"
	hookCleanup hook = "cleanup"
)

// legacyHooks are the scripts that cfgd replaces when it is called by their names.
var legacyHooks = map[string]hook{"jail_etc_init": hookInit, "jail_etc_cleanup": hookCleanup}

// parseHook finds a hook in a command of jail(8), and the jail that it names: "cfgd jail init NAME" or
// "jail_etc_init NAME", with any directory, a shell before it and anything behind it.
func parseHook(command string) (hook, string) {
	words := strings.FieldsFunc(command, func(r rune) bool {
		return strings.ContainsRune(" \t\n;&|()'\"{}", r)
	})
	for i, w := range words {
		if h, ok := legacyHooks[path.Base(w)]; ok {
			return h, wordAt(words, i+1)
		}
		if path.Base(w) != "cfgd" {
			continue
		}
		for j := i + 1; j+1 < len(words); j++ {
			if h := hook(words[j+1]); words[j] == "jail" && (h == hookInit || h == hookCleanup) {
				return h, wordAt(words, j+2)
			}
		}
	}
	return hookNone, ""
}

func wordAt(words []string, i int) string {
	if i < len(words) {
		return words[i]
	}
	return ""
}

// hasHook reports whether one of the commands is a hook.
func hasHook(commands []conffile.Located, want hook) bool {
	for _, c := range commands {
		if h, _ := parseHook(c.Value); h == want {
			return true
		}
	}
	return false
}

// hookOrigin returns the line to show for a missing hook.
func hookOrigin(d *jailDef) conffile.Origin {
	for _, key := range []string{"prestart", "poststop", "root", "jail"} {
		if at, ok := d.origin[key]; ok {
			return at
		}
	}
	return conffile.Origin{}
}

// addHook returns the text that says how to write a hook, in the form that defines the jail.
func (d *jailDef) addHook(when, what string) string {
	if d.rcPrefix != "" {
		return fmt.Sprintf("write %sexec_%s0=\"/usr/local/sbin/cfgd jail %s %s\"", d.rcPrefix, when, what,
			d.name)
	}
	return fmt.Sprintf("write exec.%s += \"/usr/local/sbin/cfgd jail %s $name\";", when, what)
}

// hookEdit returns the edit that writes a hook, in the form that defines the jail: after the other
// commands in rc.conf, or as the first line of jail.conf's block.
func hookEdit(rc *rcconf.Conf, d *jailDef, when, what string) conffile.Edit {
	if d.rcPrefix != "" {
		i := 0
		for name := d.rcPrefix + "exec_" + when; rc.IsSet(fmt.Sprint(name, i)); {
			i++
		}
		return conffile.Edit{
			File: d.origin["root"].File,
			New: fmt.Sprintf("%sexec_%s%d=\"/usr/local/sbin/cfgd jail %s %s\"", d.rcPrefix, when, i, what,
				d.name),
		}
	}
	at, ok := d.origin["jail"]
	if !ok {
		return conffile.Edit{}
	}
	return conffile.Edit{
		File: at.File,
		Line: at.Line,
		New:  fmt.Sprintf("\texec.%s += \"/usr/local/sbin/cfgd jail %s $name\";", when, what),
	}
}

// checkHooks finds hooks that are missing, in the wrong place, or for another jail.
func checkHooks(rc *rcconf.Conf, t *Target, d *jailDef) (ps []conffile.Problem) {
	at := hookOrigin(d)
	if !hasHook(d.prestart, hookInit) && !d.duplicated {
		ps = append(ps, conffile.Warn(conffile.NoInitHook, at, t.Name, d.addHook("prestart", "init"),
			"jail %s has no init hook in exec.prestart: its /etc is not populated at start",
			t.Name).SettledBy(hookEdit(rc, d, "prestart", "init")))
	}
	if !hasHook(d.poststop, hookCleanup) && !d.duplicated {
		ps = append(ps, conffile.Warn(conffile.NoCleanupHook, at, t.Name, d.addHook("poststop", "cleanup"),
			"jail %s has no cleanup hook in exec.poststop: the last changes are not saved, and its memory "+
				"stays mounted", t.Name).SettledBy(hookEdit(rc, d, "poststop", "cleanup")))
	}
	if !d.duplicated {
		ps = append(ps, checkPlaces(d, "prestart", hookInit, d.prestart)...)
	}
	ps = append(ps, checkPlaces(d, "poststop", hookCleanup, d.poststop)...)
	for _, when := range sorted(d.wrong) {
		ps = append(ps, checkPlaces(d, when, alsoRight[when], d.wrong[when])...)
	}
	return ps
}

// checkPlaces finds hooks in a list of commands that belong elsewhere, or are for another jail.
func checkPlaces(d *jailDef, when string, right hook, commands []conffile.Located) (ps []conffile.Problem) {
	for _, c := range commands {
		h, name := parseHook(c.Value)
		switch {
		case h == hookNone:
		case h != right:
			ps = append(ps, conffile.Warn(conffile.MisplacedHook, c.At, d.name,
				d.addHook(rightPlace[h], string(h)),
				"the %s hook of jail %s is in exec.%s%s", h, d.name, when, wrongPlace[when]))
		case strings.ContainsAny(name, "$`"): // which only a shell knows
		case jailName(name) != jailName(d.name) && name != "":
			ps = append(ps, conffile.Warn(conffile.ForeignHook, c.At, d.name, "name "+d.name,
				"the %s hook of jail %s names %s", h, d.name, name))
		}
	}
	return ps
}

var rightPlace = map[hook]string{hookInit: "prestart", hookCleanup: "poststop"}

// alsoRight are further correct places: in exec.prepare a cleanup clears what a failed start left.
var alsoRight = map[string]hook{"prepare": hookCleanup}

// wrongPlace says why a place is wrong, in the order of jail(8)'s steps.
var wrongPlace = map[string]string{
	"prepare":   ": the jail's fstab is not mounted yet",
	"created":   ": its failure would leave a jail without /etc",
	"start":     ", which runs inside of the jail",
	"poststart": ": the jail has started without its /etc by then",
	"prestop":   ": its failure would leave the jail running",
	"stop":      ": its failure would leave the jail running",
	"release":   ": the jail's fstab is unmounted by then",
}
