package config

import (
	"strings"

	"cfgd/config/conffile"
)

// checkHooks finds hooks that are missing, in the wrong place, or for another jail.
func (l *loader) checkHooks(t *Target, d *jailDef) {
	at := hookOrigin(d)
	if !hasHook(d.prestart, hookInit) && !d.duplicated {
		l.problem(conffile.Warn(conffile.NoInitHook, at, t.Name, d.addHook("prestart", "init"),
			"jail %s has no init hook in exec.prestart: its /etc is not populated at start",
			t.Name).SettledBy(hookEdit(l.rc, d, "prestart", "init")))
	}
	if !hasHook(d.poststop, hookCleanup) && !d.duplicated {
		l.problem(conffile.Warn(conffile.NoCleanupHook, at, t.Name, d.addHook("poststop", "cleanup"),
			"jail %s has no cleanup hook in exec.poststop: the last changes are not saved, and its memory "+
				"stays mounted", t.Name).SettledBy(hookEdit(l.rc, d, "poststop", "cleanup")))
	}
	l.checkPlaces(t, d)
}

// checkPlaces checks each command for a hook that belongs elsewhere, or is for another jail.
func (l *loader) checkPlaces(t *Target, d *jailDef) {
	if !d.duplicated {
		l.checkPlace(t, d, "prestart", hookInit, d.prestart)
	}
	l.checkPlace(t, d, "poststop", hookCleanup, d.poststop)
	for _, when := range sorted(d.wrong) {
		l.checkPlace(t, d, when, alsoRight[when], d.wrong[when])
	}
}

func (l *loader) checkPlace(t *Target, d *jailDef, when string, right hook, commands []conffile.Located) {
	for _, c := range commands {
		h, name := parseHook(c.Value)
		switch {
		case h == hookNone:
		case h != right:
			l.problem(conffile.Warn(conffile.MisplacedHook, c.At, t.Name, d.addHook(rightPlace[h], string(h)),
				"the %s hook of jail %s is in exec.%s%s", h, t.Name, when, wrongPlace[when]))
		case strings.ContainsAny(name, "$`"): // which only a shell knows
		case jailName(name) != jailName(t.Name) && name != "":
			l.problem(conffile.Warn(conffile.ForeignHook, c.At, t.Name, "name "+t.Name,
				"the %s hook of jail %s names %s", h,
				t.Name,
				name))
		}
	}
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
