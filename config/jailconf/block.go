package jailconf

import (
	"cfgd/config/conffile"
)

// Block is a jail of jail.conf with everything that applies to it, variables expanded: its own
// parameters, those of "*" and other wildcards, and those outside of blocks.
type Block struct {
	Name   string
	Params map[string]Param // by name as written last: allow.nomount if it came after allow.mount
	Hidden []Hidden
	Origin conffile.Origin // where its first block begins
}

// Param is a parameter's values, none for one that is only named (persist;).
type Param struct {
	Values  []string
	Origin  conffile.Origin   // of the last assignment
	Origins []conffile.Origin // of each value; nil if all have Origin
}

// at returns where a value was written.
func (p Param) at(i int) conffile.Origin {
	if i < len(p.Origins) {
		return p.Origins[i]
	}
	return p.Origin
}

// Values returns a parameter's values. An empty value, which turns a default off, counts as none.
func (b Block) Values(name string) []conffile.Located {
	p := b.Params[name]
	var out []conffile.Located
	for i, v := range p.Values {
		if v != "" {
			out = append(out, conffile.Located{Value: v, At: p.at(i)})
		}
	}
	return out
}

// Hidden is a command that a second "=" in the same block replaced.
type Hidden struct {
	Param         string
	First, Second conffile.Located
}
