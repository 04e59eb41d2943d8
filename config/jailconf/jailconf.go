// Package jailconf parses jail.conf(5) as jail(8) does, and returns the jails with everything that applies to
// each: its own parameters, those of wildcards and those outside of blocks, with variables put in.
//
// lex.go splits bytes into tokens, parse.go parses tokens into statements and follows .include, merge.go
// collects what applies to each jail, and expand.go puts variables in. What always holds: nothing is run,
// "$(…)" is literal here as it is for jail(8); every value has the file and line that it came from; and a
// hostile file is refused within about a second.
package jailconf

import (
	"cmp"
	"path"

	"cfgd/config/conffile"
)

// Bounds of a jail.conf with all that it includes, far above what a thousand jails need. They keep a
// hostile or faulty file from taking more than about a second: values can double in every line, and every
// default applies to every jail.
const (
	maxBytes = 4 << 20 // of all files together
	maxFiles = 4096    // files read; a file included in several blocks counts each time
	maxDepth = 32      // files including files, as in jail(8), and blocks within blocks
	// bytes of a jail's, parameter's or variable's name; MAXHOSTNAMELEN less its NUL
	maxName     = 255
	maxValue    = 64 << 10 // bytes of one value with its variables put in
	maxList     = 4096     // values of one parameter
	maxChain    = 256      // variables that refer to variables
	maxWork     = 1 << 20  // values looked at for all jails
	maxExpanded = 32 << 20 // bytes of all values with their variables put in
	maxProblems = 1000     // problems reported about one file
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

// Load reads a jail.conf and the files that it includes. The jails are in the order of the file,
// without wildcards. Problems are about single jails, or about what the file leaves open. The error is a
// *conffile.Error for which jail(8) refuses the file, or wraps fs.ErrNotExist if the file is missing.
func Load(read conffile.Reader, file string) ([]Block, []conffile.Problem, error) {
	p := &parser{read: read, seen: map[string]conffile.Origin{}}
	if err := p.main(file); err != nil {
		return nil, nil, err
	}
	m := &merger{workLeft: maxWork, bytesLeft: maxExpanded, file: file, problems: p.problems}
	m.warnLateDefaults(p.sections)
	blocks := m.blocks(p.sections)
	if m.err != nil {
		return nil, nil, m.err
	}
	return blocks, m.problems, nil
}

// includePath returns a name in .include, relative to the directory of the including file. It is not
// cleaned, because "link/.." can be another place.
func includePath(from, name string) string {
	if path.IsAbs(name) {
		return name
	}
	return conffile.JoinKeepingDots(cmp.Or(path.Dir(from), "/"), name)
}
