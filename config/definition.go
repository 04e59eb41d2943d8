package config

// Form is the kind of file that defines a jail.
type Form string

// The forms: variables of rc.conf, or jail.conf(5).
const (
	FormRC       Form = "rc.conf"
	FormJailConf Form = "jail.conf"
)

// Definition is how a jail is defined. It serves to make another jail like it.
type Definition struct {
	Form   Form    // "" if only cfgd.toml names the jail
	Params []Param // in order of their names
}

// Param is a parameter of jail.conf, with wildcards and variables applied, or what follows jail_NAME_ in
// a variable of rc.conf.
type Param struct {
	Name   string
	Values []string // none for one that is only named (persist;)
}

// JailForm returns the form in which most jails of the machine are defined, rc.conf if there are none.
func (m *Model) JailForm() Form {
	count := map[Form]int{}
	for _, t := range m.Targets {
		count[t.Definition.Form]++
	}
	for _, j := range m.Jails {
		count[j.Definition.Form]++
	}
	if count[FormJailConf] > count[FormRC] {
		return FormJailConf
	}
	return FormRC
}
