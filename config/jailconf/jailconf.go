// Package jailconf parses jail.conf(5) as jail(8) does, and returns the jails with everything that applies to
// each: its own parameters, those of wildcards and those outside of blocks, with variables put in.
//
// lex.go splits bytes into tokens, parse.go parses tokens into statements and follows .include, merge.go
// collects what applies to each jail, and expand.go puts variables in, within limits.go's bounds. What
// always holds: nothing is run, "$(…)" is literal here as it is for jail(8); every value has the file and
// line that it came from; and a hostile file is refused within about a second.
package jailconf

import (
	"cfgd/config/conffile"
)

// Load reads a jail.conf and the files that it includes. The jails are in the order of the file,
// without wildcards. Problems are about single jails, or about what the file leaves open. The error is a
// *conffile.Error for which jail(8) refuses the file, or wraps fs.ErrNotExist if the file is missing.
func Load(read conffile.Reader, file string) ([]Block, []conffile.Problem, error) {
	p := &parser{read: read, seen: map[string]conffile.Origin{}}
	if err := p.main(file); err != nil {
		return nil, nil, err
	}
	m := merger{&limits{workLeft: maxWork, bytesLeft: maxExpanded, file: file, problems: p.problems}}
	m.warnLateDefaults(p.sections)
	blocks := m.blocks(p.sections)
	if m.err != nil {
		return nil, nil, m.err
	}
	return blocks, m.problems, nil
}
