package rcconf

import (
	"path"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"cfgd/config/conffile"
)

func (c *Conf) stmts(file string, list []*syntax.Stmt) {
	for _, s := range list {
		c.stmt(file, s)
	}
}

// stmt follows one statement: assignments, and what only groups or exports them. Everything else makes
// variables unknown.
func (c *Conf) stmt(file string, s *syntax.Stmt) {
	if s.Negated || s.Background {
		c.doubt(file, s, "a command that cfgd does not run")
		return
	}
	switch cmd := s.Cmd.(type) {
	case *syntax.CallExpr:
		c.call(file, s, cmd)
	case *syntax.Block:
		c.stmts(file, cmd.Stmts)
	case nil: // a redirection alone
	default:
		c.doubt(file, s, constructName(s.Cmd))
	}
}

// call follows assignments alone, ":" (whose ${x:=y} assigns) and unset. A file read with "." is searched
// for what it would set.
func (c *Conf) call(file string, s *syntax.Stmt, cmd *syntax.CallExpr) {
	if len(cmd.Args) == 0 {
		for _, a := range cmd.Assigns {
			c.assign(file, a)
		}
		return
	}
	switch word := cmd.Args[0].Lit(); word {
	case ":", "true":
		for _, w := range cmd.Args[1:] {
			if _, err := c.expand(file, w); err != nil {
				c.doubt(file, s, err.Error())
			}
		}
	case "export", "readonly":
		c.export(file, cmd.Args[1:])
	case "unset":
		for _, w := range cmd.Args[1:] {
			delete(c.vars, w.Lit())
		}
	case ".", "source":
		c.source(file, s, cmd)
	default:
		c.doubt(file, s, "a command, which cfgd does not run")
	}
}

// source warns if a file that is read with "." sets a variable that matters. From there on the variable
// is unknown.
func (c *Conf) source(file string, s *syntax.Stmt, cmd *syntax.CallExpr) {
	if len(cmd.Args) < 2 {
		return
	}
	name, err := c.expand(file, cmd.Args[1])
	if err != nil || !path.IsAbs(name) {
		return // it cannot be said what it sets: like any other command
	}
	parsed, err := c.parse(name)
	if err != nil || parsed == nil {
		return
	}
	if names := touched(parsed); len(names) > 0 {
		c.taint(conffile.At(file, int(s.Pos().Line())), "reading "+name+", which cfgd does not follow", names)
	}
}

// export follows the assignments in the arguments of export and readonly, which a POSIX shell treats as
// words.
func (c *Conf) export(file string, words []*syntax.Word) {
	for _, w := range words {
		if len(w.Parts) == 0 {
			continue
		}
		lit, ok := w.Parts[0].(*syntax.Lit)
		if !ok {
			continue
		}
		name, rest, ok := strings.Cut(lit.Value, "=")
		if !ok || !syntax.ValidName(name) {
			continue
		}
		first := *lit
		first.Value = rest
		value := &syntax.Word{Parts: append([]syntax.WordPart{&first}, w.Parts[1:]...)}
		c.set(file, name, w.Pos(), value)
	}
}

// assign follows an assignment.
func (c *Conf) assign(file string, a *syntax.Assign) {
	c.set(file, a.Name.Value, a.Pos(), a.Value)
}

// set sets a variable to the expansion of a word.
func (c *Conf) set(file, name string, pos syntax.Pos, word *syntax.Word) {
	at := conffile.At(file, int(pos.Line()))
	value, err := c.expand(file, word)
	if err != nil {
		c.taint(at, err.Error(), []string{name})
		return
	}
	c.vars[name] = variable{value: value, known: true, origin: at}
	if matters(name) {
		c.assigned[name] = append(c.assigned[name],
			Assignment{conffile.Located{Value: value, At: at}, mentions(word, name)})
	}
}

// doubt makes all variables unknown that a statement may set.
func (c *Conf) doubt(file string, s *syntax.Stmt, why string) {
	c.taint(conffile.At(file, int(s.Pos().Line())), why, touched(s))
	for _, name := range assignedIn(s) {
		if !matters(name) {
			c.vars[name] = variable{origin: conffile.At(file, int(s.Pos().Line()))}
		}
	}
}
