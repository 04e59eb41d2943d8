package rcconf

import (
	"maps"
	"slices"
	"strings"

	"cfgd/config/conffile"
)

// variable is a variable as far as it is known without running anything.
type variable struct {
	value  string
	known  bool // false if only a shell would know the value
	origin conffile.Origin
}

// Assignment is one plain assignment.
type Assignment struct {
	conffile.Located
	Self bool // the value mentions the variable itself, as in jail_list="$jail_list new"
}

// Conf holds the variables after reading rc.conf and the related files in the order of rc.subr(8)'s
// load_rc_config.
type Conf struct {
	read     conffile.Reader
	vars     map[string]variable
	assigned map[string][]Assignment // of the variables that matter, to find duplicate assignments
	Problems []conffile.Problem
}

// matters reports whether cfgd reads a variable.
func matters(name string) bool { return strings.HasPrefix(name, "jail_") }

func newConf(read conffile.Reader) *Conf {
	return &Conf{read: read, vars: map[string]variable{}, assigned: map[string][]Assignment{}}
}

// taint makes variables unknown, and warns of the ones that matter.
func (c *Conf) taint(at conffile.Origin, why string, names []string) {
	var matter []string
	for _, name := range names {
		c.vars[name] = variable{origin: at}
		if matters(name) {
			matter = append(matter, name)
		}
	}
	if len(matter) > 0 {
		c.warn(conffile.UnknownValue, at, "write it as a plain assignment", "%s depends on %s",
			strings.Join(matter, ", "), why)
	}
}

func (c *Conf) warn(kind conffile.Kind, at conffile.Origin, fix, format string, args ...any) {
	c.Problems = append(c.Problems, conffile.Warn(kind, at, "", fix, format, args...))
}

// Get returns a variable's value if it is known and not empty.
func (c *Conf) Get(name string) (string, conffile.Origin, bool) {
	v, ok := c.vars[name]
	if !ok || !v.known || v.value == "" {
		return "", v.origin, false
	}
	return v.value, v.origin, true
}

// Yes does the same as checkyesno of rc.subr(8).
func (c *Conf) Yes(name string) bool {
	v, _, _ := c.Get(name)
	switch strings.ToLower(v) {
	case "yes", "true", "on", "1":
		return true
	}
	return false
}

// Unknown reports whether a variable is set to what only a shell knows. A warning was given for it.
func (c *Conf) Unknown(name string) bool {
	v, ok := c.vars[name]
	return ok && !v.known
}

// Names returns the names of all variables that were set, sorted.
func (c *Conf) Names() []string { return slices.Sorted(maps.Keys(c.vars)) }

// IsSet reports whether a variable was set, to whatever value.
func (c *Conf) IsSet(name string) bool {
	_, ok := c.vars[name]
	return ok
}

// Doubled returns the jail_ variables that are assigned more than once, sorted.
func (c *Conf) Doubled() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(c.assigned)), func(name string) bool {
		return len(c.assigned[name]) < 2
	})
}

// Assignments returns the plain assignments of a jail_ variable, in order.
func (c *Conf) Assignments(name string) []Assignment { return c.assigned[name] }
