package config

import (
	"fmt"
	"reflect"

	"cfgd/config/conffile"
)

// Step is one edit that cfgd setup makes, and why.
type Step struct {
	conffile.Edit
	Settles conffile.Key // the problem that the edit settles; only its Target if it is none of the model's
	Why     string       // for people
}

// Missing returns the edits for what rc.conf, jail.conf and fstab lack for cfgd, in the order of
// Problems.
func (m *Model) Missing() []Step {
	var all []Step
	for _, p := range m.Problems {
		if p.Edit != (conffile.Edit{}) {
			all = append(all, Step{p.Edit, p.Key(), p.Message})
		}
	}
	if !m.Enabled && len(m.Targets) > 0 {
		all = append(all, Step{
			conffile.Edit{File: "/etc/rc.conf", New: `cfgd_enable="YES"`}, conffile.Key{},
			"the daemon is not started at boot",
		})
	}
	return all
}

// Settled returns nil if now is this machine with the steps done: each problem of a step is gone, no target
// that no step is about has another problem, and no target is gone or defined differently that no step is
// about.
func (m *Model) Settled(now *Model, steps []Step) error {
	expected := map[conffile.Key]int{} // how many problems of each key may be left
	for _, p := range m.Problems {
		expected[p.Key()]++
	}
	about, settles := map[string]bool{}, map[conffile.Key]bool{}
	for _, st := range steps {
		expected[st.Settles]--
		about[st.Settles.Target], settles[st.Settles] = true, true
	}
	for _, p := range now.Problems {
		k := p.Key()
		expected[k]--
		switch {
		case expected[k] >= 0:
		case settles[k]:
			return fmt.Errorf("the edit did not settle it: %s", p)
		case !about[p.Target]:
			return fmt.Errorf("the edits would bring another problem: %s", p)
		}
	}
	for _, t := range m.Targets {
		if n := now.Target(t.Name); n == nil ||
			!about[t.Name] && !reflect.DeepEqual(n.Definition, t.Definition) {
			return fmt.Errorf("the edits would change %s as well", t.Name)
		}
	}
	return nil
}
