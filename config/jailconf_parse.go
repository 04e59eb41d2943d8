package config

import (
	"bytes"
	"fmt"
	"path"
	"strings"

	"cfgd/config/conffile"
)

// jailSection is a block of jail.conf, or a run of parameters outside of blocks, which apply as a block
// "*" would.
type jailSection struct {
	name    string
	loose   bool // a run outside of blocks
	at      conffile.Origin
	assigns []jailAssign
}

// jailAssign is a parameter or, with $, a variable and what it is set to.
type jailAssign struct {
	name     string
	variable bool
	add      bool // +=
	values   []jailToken
	at       conffile.Origin
	origins  []conffile.Origin // of the values
}

// jailParser reads a file, and what it includes, into sections in the order in which they begin.
type jailParser struct {
	read     conffile.Reader
	sections []*jailSection
	problems []conffile.Problem
	seen     map[string]conffile.Origin // files read outside of blocks, and what included them
	open     []string                   // files being read, the innermost last
	files    int
	bytes    int
}

// jailScope is the context of a statement.
type jailScope struct {
	lx     *jailLexer
	block  *jailSection // nil outside of blocks
	opened jailPos      // of the block, if this file opened it
	depth  int          // of blocks that this file opened
	all    int          // of blocks in all files
}

// main reads the file that is not included by another.
func (p *jailParser) main(file string) error {
	data, err := p.read.ReadFile(file)
	if err != nil {
		return err
	}
	p.seen[path.Clean(file)] = conffile.Origin{File: file}
	return p.parse(file, data, jailScope{})
}

// parse reads the contents of a file, as part of a block if an including one is in it.
func (p *jailParser) parse(file string, data []byte, sc jailScope) error {
	p.files++
	p.bytes += len(data)
	if p.files > maxJailFiles || p.bytes > maxJailBytes {
		return &conffile.Error{File: file,
			Message: fmt.Sprintf("more than %d files or %d MiB in one jail.conf",
				maxJailFiles, maxJailBytes>>20),
			Fix: "include less"}
	}
	sc.lx, sc.depth = newJailLexer(file, string(data)), 0
	if nul := bytes.IndexByte(data, 0); nul >= 0 {
		sc.lx.take(nul)
		return sc.lx.fail(sc.lx.pos(), "remove it", "NUL byte")
	}
	p.open = append(p.open, path.Clean(file))
	defer func() { p.open = p.open[:len(p.open)-1] }()
	return p.statements(sc)
}

// statements reads up to the end of the block or, outside of one, of the file.
func (p *jailParser) statements(sc jailScope) error {
	for {
		t, err := sc.lx.next()
		if err != nil {
			return err
		}
		switch {
		case t.kind == jailWord:
			err = p.statement(sc, t)
		case t.kind == ';':
		case t.kind == '}' && sc.depth > 0:
			return nil
		case t.kind == jailEnd && sc.depth == 0:
			return nil
		case t.kind == jailEnd:
			return sc.lx.fail(sc.opened, "close it with }", "block %s without an end", sc.block.name)
		default:
			return sc.lx.fail(t.start, "write name { … } or name = value;", "unexpected %s", t.kind)
		}
		if err != nil {
			return err
		}
	}
}

// statement reads a block or an assignment of which the first word has been read.
func (p *jailParser) statement(sc jailScope, first jailToken) error {
	t, err := sc.lx.next()
	if err != nil {
		return err
	}
	if t.kind == '{' {
		return p.block(sc, first)
	}
	a, err := p.assign(sc, first)
	if err != nil {
		return err
	}
	switch t.kind {
	case ';':
		return p.set(sc, a)
	case '=', jailAdd:
		a.add = t.kind == jailAdd
		if t, err = sc.lx.next(); err != nil {
			return err
		}
		if err := p.values(sc, &a, t); err != nil {
			return err
		}
		return p.set(sc, a)
	case jailWord:
		return p.directive(sc, a, first, t)
	}
	return noSemicolon(sc, first, t)
}

// assign begins an assignment.
func (p *jailParser) assign(sc jailScope, first jailToken) (jailAssign, error) {
	name, ok := first.name()
	switch {
	case !ok:
		return jailAssign{}, sc.lx.fail(first.start, "write the name as one word, in quotes where need be",
			"no name of a parameter")
	case len(name) > maxJailName:
		return jailAssign{}, sc.lx.fail(first.start, "write a shorter one", "name of more than %d bytes",
			maxJailName)
	}
	return jailAssign{
		name:     name,
		variable: first.parts[0].variable,
		at:       conffile.At(sc.lx.file, first.start.line),
	}, nil
}

// noSemicolon returns the error of a statement without an end. Its position is after the last word, not
// at the next statement.
func noSemicolon(sc jailScope, last, t jailToken) error {
	return sc.lx.fail(last.end, `end the parameter with ";"`, `missing ";" before %s`, t.kind)
}

// values reads a list up to its semicolon; t is its first token.
func (p *jailParser) values(sc jailScope, a *jailAssign, t jailToken) error {
	for {
		if t.kind != jailWord {
			return sc.lx.fail(t.start, `write a value, "" for an empty one`,
				"%s where the value of %s should be", t.kind, a.name)
		}
		a.values = append(a.values, t)
		a.origins = append(a.origins, conffile.At(sc.lx.file, t.start.line))
		next, err := sc.lx.next()
		if err != nil {
			return err
		}
		switch next.kind {
		case ';':
			return nil
		case ',':
		default:
			return noSemicolon(sc, t, next)
		}
		if t, err = sc.lx.next(); err != nil {
			return err
		}
	}
}

// directive reads "name value;", which is "name = value;" except for .include. Behind a missing semicolon
// it is the next statement's name that looks like a value.
func (p *jailParser) directive(sc jailScope, a jailAssign, first, value jailToken) error {
	ahead := *sc.lx
	if t, err := ahead.next(); err == nil && (t.kind == '=' || t.kind == jailAdd || t.kind == '{') {
		return noSemicolon(sc, first, value)
	}
	if err := p.values(sc, &a, value); err != nil {
		return err
	}
	if a.name != ".include" || a.variable {
		return p.set(sc, a)
	}
	for _, v := range a.values {
		if err := p.include(sc, v); err != nil {
			return err
		}
	}
	return nil
}

// set adds an assignment to the block, or to the parameters outside of blocks.
func (p *jailParser) set(sc jailScope, a jailAssign) error {
	if a.name == ".include" && !a.variable {
		return &conffile.Error{
			File:    a.at.File,
			Line:    a.at.Line,
			Message: ".include is no parameter",
			Fix:     `write .include "FILE"; without =`,
		}
	}
	sec := sc.block
	if sec == nil {
		sec = p.loose(a.at)
	}
	sec.assigns = append(sec.assigns, a)
	return nil
}

// loose returns the current run of parameters outside of blocks, or a new one.
func (p *jailParser) loose(at conffile.Origin) *jailSection {
	if n := len(p.sections); n > 0 && p.sections[n-1].loose {
		return p.sections[n-1]
	}
	sec := &jailSection{name: "*", loose: true, at: at}
	p.sections = append(p.sections, sec)
	return sec
}

// block reads a jail or wildcard up to its closing brace. A block within a block is the jail of that name
// below the outer one.
func (p *jailParser) block(sc jailScope, first jailToken) error {
	name, err := p.blockName(sc, first)
	if err != nil {
		return err
	}
	if sc.all >= maxJailDepth {
		return sc.lx.fail(first.start, "nest less", "more than %d blocks within each other", maxJailDepth)
	}
	sec := &jailSection{name: name, at: conffile.At(sc.lx.file, first.start.line)}
	p.sections = append(p.sections, sec)
	sc.block, sc.opened = sec, first.start
	sc.depth++
	sc.all++
	return p.statements(sc)
}

// blockName is the whole name of a jail or wildcard.
func (p *jailParser) blockName(sc jailScope, first jailToken) (string, error) {
	name, ok := first.literal()
	if !ok || name == "" {
		return "", sc.lx.fail(first.start, "write the name as it is, without variables", "no name of a jail")
	}
	if first.pieces > 1 { // such as web.*, of which jail(8) makes two words
		p.problems = append(p.problems, conffile.Refuse(conffile.At(sc.lx.file, first.start.line), "",
			fmt.Sprintf("write %q", name),
			"jail(8) reads a name such as %s only in quotes", name))
	}
	if sc.block != nil {
		name = sc.block.name + "." + name
	}
	if len(name) > maxJailName {
		return "", sc.lx.fail(first.start, "write a shorter one", "name of more than %d bytes", maxJailName)
	}
	return name, nil
}

// include reads the files of one .include, sorted by name. A pattern may match nothing; a plain name must
// exist.
func (p *jailParser) include(sc jailScope, word jailToken) error {
	name, ok := word.literal()
	switch {
	case !ok:
		return sc.lx.fail(word.start, "write the name without variables",
			"variable in the name of an .include")
	case name == "":
		return sc.lx.fail(word.start, "name a file", ".include without a name")
	}
	name = includePath(sc.lx.file, name)
	names := []string{name}
	if strings.ContainsAny(name, "*?[") {
		var err error
		if names, err = p.read.Glob(globPattern(name)); err != nil {
			return includeError(sc, word, name, err)
		}
	}
	for _, n := range names {
		if err := p.includeFile(sc, word, n); err != nil {
			return err
		}
	}
	return nil
}

// includeFile reads one file of an .include. Outside of blocks a second time is a mistake, since it
// defines its jails twice; in blocks a file of common parameters may be.
func (p *jailParser) includeFile(sc jailScope, word jailToken, name string) error {
	clean := path.Clean(name)
	for _, open := range p.open {
		if open == clean {
			return sc.lx.fail(word.start, "remove this .include", "%s includes itself", name)
		}
	}
	at := conffile.At(sc.lx.file, word.start.line)
	if first, again := p.seen[clean]; again && sc.block == nil {
		return sc.lx.fail(word.start, "remove one of the two", "%s is included a second time, first at %s",
			name, first)
	}
	if len(p.open) > maxJailDepth {
		return sc.lx.fail(word.start, "nest less", "more than %d files that include each other", maxJailDepth)
	}
	if sc.block == nil {
		p.seen[clean] = at
	}
	data, err := p.read.ReadFile(name)
	if err != nil {
		return includeError(sc, word, name, err)
	}
	return p.parse(name, data, sc)
}

// includeError returns the error for an included file that cannot be read.
func includeError(sc jailScope, word jailToken, name string, err error) error {
	return &conffile.Error{File: sc.lx.file, Line: word.start.line, Col: word.start.col, Err: err,
		Message: fmt.Sprintf("include %s: %s", name, strings.TrimPrefix(err.Error(), name+": ")),
		Fix:     "mend the name or the file"}
}

// globPattern turns a pattern of glob(3) into one of path.Match: a bracket begins with "!" where Go has "^".
func globPattern(pattern string) string {
	return strings.NewReplacer(`\[`, `\[`, "[^", `[\^`, "[!", "[^").Replace(pattern)
}
