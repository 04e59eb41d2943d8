package jailconf

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"strings"

	"cfgd/config/conffile"
)

// section is a block of jail.conf, or a run of parameters outside of blocks, which apply as a block
// "*" would.
type section struct {
	name    string
	loose   bool // a run outside of blocks
	at      conffile.Origin
	assigns []assignment
}

// assignment is a parameter or, with $, a variable and what it is set to.
type assignment struct {
	name     string
	variable bool
	add      bool // +=
	values   []token
	at       conffile.Origin
	origins  []conffile.Origin // of the values
}

// parser reads a file, and what it includes, into sections in the order in which they begin.
type parser struct {
	read     conffile.Reader
	sections []*section
	problems []conffile.Problem
	seen     map[string]conffile.Origin // files read outside of blocks, and what included them
	open     []string                   // files being read, the innermost last
	files    int
	bytes    int
}

// scope is the context of a statement.
type scope struct {
	lx     *lexer
	block  *section // nil outside of blocks
	opened position // of the block, if this file opened it
	depth  int      // of blocks that this file opened
	all    int      // of blocks in all files
}

// main reads the file that is not included by another.
func (p *parser) main(file string) error {
	data, err := p.read.ReadFile(file)
	if err != nil {
		return err
	}
	p.seen[path.Clean(file)] = conffile.Origin{File: file}
	return p.parse(file, data, scope{})
}

// parse reads the contents of a file, as part of a block if an including one is in it.
func (p *parser) parse(file string, data []byte, sc scope) error {
	p.files++
	p.bytes += len(data)
	if p.files > maxFiles || p.bytes > maxBytes {
		return &conffile.Error{File: file,
			Message: fmt.Sprintf("more than %d files or %d MiB in one jail.conf",
				maxFiles, maxBytes>>20),
			Fix: "include less"}
	}
	sc.lx, sc.depth = newLexer(file, string(data)), 0
	if nul := bytes.IndexByte(data, 0); nul >= 0 {
		sc.lx.take(nul)
		return sc.lx.fail(sc.lx.pos(), "remove it", "NUL byte")
	}
	p.open = append(p.open, path.Clean(file))
	defer func() { p.open = p.open[:len(p.open)-1] }()
	return p.statements(sc)
}

// statements reads up to the end of the block or, outside of one, of the file.
func (p *parser) statements(sc scope) error {
	for {
		t, err := sc.lx.next()
		if err != nil {
			return err
		}
		switch {
		case t.kind == word:
			err = p.statement(sc, t)
		case t.kind == ';':
		case t.kind == '}' && sc.depth > 0:
			return nil
		case t.kind == endOfFile && sc.depth == 0:
			return nil
		case t.kind == endOfFile:
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
func (p *parser) statement(sc scope, first token) error {
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
	case '=', addTo:
		a.add = t.kind == addTo
		if t, err = sc.lx.next(); err != nil {
			return err
		}
		if err := p.values(sc, &a, t); err != nil {
			return err
		}
		return p.set(sc, a)
	case word:
		return p.directive(sc, a, first, t)
	}
	return noSemicolon(sc, first, t)
}

// assign begins an assignment.
func (p *parser) assign(sc scope, first token) (assignment, error) {
	name, ok := first.name()
	switch {
	case !ok:
		return assignment{}, sc.lx.fail(first.start, "write the name as one word, in quotes where need be",
			"no name of a parameter")
	case len(name) > maxName:
		return assignment{}, sc.lx.fail(first.start, "write a shorter one", "name of more than %d bytes",
			maxName)
	}
	return assignment{
		name:     name,
		variable: first.parts[0].variable,
		at:       conffile.At(sc.lx.file, first.start.line),
	}, nil
}

// noSemicolon returns the error of a statement without an end. Its position is after the last word, not
// at the next statement.
func noSemicolon(sc scope, last, t token) error {
	return sc.lx.fail(last.end, `end the parameter with ";"`, `missing ";" before %s`, t.kind)
}

// values reads a list up to its semicolon; t is its first token.
func (p *parser) values(sc scope, a *assignment, t token) error {
	for {
		if t.kind != word {
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
func (p *parser) directive(sc scope, a assignment, first, value token) error {
	ahead := *sc.lx
	if t, err := ahead.next(); err == nil && (t.kind == '=' || t.kind == addTo || t.kind == '{') {
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
func (p *parser) set(sc scope, a assignment) error {
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
func (p *parser) loose(at conffile.Origin) *section {
	if n := len(p.sections); n > 0 && p.sections[n-1].loose {
		return p.sections[n-1]
	}
	sec := &section{name: "*", loose: true, at: at}
	p.sections = append(p.sections, sec)
	return sec
}

// block reads a jail or wildcard up to its closing brace. A block within a block is the jail of that name
// below the outer one.
func (p *parser) block(sc scope, first token) error {
	name, err := p.blockName(sc, first)
	if err != nil {
		return err
	}
	if sc.all >= maxDepth {
		return sc.lx.fail(first.start, "nest less", "more than %d blocks within each other", maxDepth)
	}
	sec := &section{name: name, at: conffile.At(sc.lx.file, first.start.line)}
	p.sections = append(p.sections, sec)
	sc.block, sc.opened = sec, first.start
	sc.depth++
	sc.all++
	return p.statements(sc)
}

// blockName is the whole name of a jail or wildcard.
func (p *parser) blockName(sc scope, first token) (string, error) {
	name, ok := first.literal()
	if !ok || name == "" {
		return "", sc.lx.fail(first.start, "write the name as it is, without variables", "no name of a jail")
	}
	if first.pieces > 1 { // such as web.*, of which jail(8) makes two words
		p.problems = append(p.problems, conffile.Refuse(conffile.UnquotedName,
			conffile.At(sc.lx.file, first.start.line), "",
			fmt.Sprintf("write %q", name),
			"jail(8) reads a name such as %s only in quotes", name))
	}
	if sc.block != nil {
		name = sc.block.name + "." + name
	}
	if len(name) > maxName {
		return "", sc.lx.fail(first.start, "write a shorter one", "name of more than %d bytes", maxName)
	}
	return name, nil
}

// include reads the files of one .include, sorted by name. A pattern may match nothing; a plain name must
// exist.
func (p *parser) include(sc scope, word token) error {
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
func (p *parser) includeFile(sc scope, word token, name string) error {
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
	if len(p.open) > maxDepth {
		return sc.lx.fail(word.start, "nest less", "more than %d files that include each other", maxDepth)
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
func includeError(sc scope, word token, name string, err error) error {
	return &conffile.Error{File: sc.lx.file, Line: word.start.line, Col: word.start.col, Err: err,
		Message: fmt.Sprintf("include %s: %s", name, strings.TrimPrefix(err.Error(), name+": ")),
		Fix:     "mend the name or the file"}
}

// globPattern turns a pattern of glob(3) into one of path.Match: a bracket begins with "!" where Go has "^".
func globPattern(pattern string) string {
	return strings.NewReplacer(`\[`, `\[`, "[^", `[\^`, "[!", "[^").Replace(pattern)
}

// includePath returns a name in .include, relative to the directory of the including file. It is not
// cleaned, because "link/.." can be another place.
func includePath(from, name string) string {
	if path.IsAbs(name) {
		return name
	}
	return conffile.JoinKeepingDots(cmp.Or(path.Dir(from), "/"), name)
}
