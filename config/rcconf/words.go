package rcconf

import (
	"errors"
	"fmt"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"cfgd/config/conffile"
)

// maxValue and maxParams bound the expansion of one word: rc.conf could double a value on every
// line.
const (
	maxValue  = 64 << 10
	maxParams = 256
)

// expand returns a word's value, or an error that names what only a shell would know.
func (c *Conf) expand(file string, w *syntax.Word) (value string, err error) {
	if w == nil {
		return "", nil
	}
	if err := c.static(w); err != nil {
		return "", err
	}
	// The library panics on a few forms that no rc.conf has. Then the value is unknown.
	defer func() {
		if p := recover(); p != nil {
			value, err = "", fmt.Errorf("an expansion that cfgd does not know")
		}
	}()
	env := &environ{c: c, at: conffile.At(file, int(w.Pos().Line()))}
	value, err = expand.Literal(&expand.Config{Env: env}, unescape(w))
	switch {
	case err != nil:
		return "", fmt.Errorf("an expansion that is an error (%w)", err)
	case len(value) > maxValue:
		return "", fmt.Errorf("a value of more than %d KiB", maxValue>>10)
	}
	return value, nil
}

// unescape rewrites backslash quoting outside of double quotes as single quotes, because expand.Literal
// keeps such backslashes.
func unescape(w *syntax.Word) *syntax.Word {
	out := &syntax.Word{}
	for _, part := range w.Parts {
		lit, ok := part.(*syntax.Lit)
		if !ok || !strings.Contains(lit.Value, `\`) {
			out.Parts = append(out.Parts, part)
			continue
		}
		for rest := lit.Value; rest != ""; {
			plain, behind, found := strings.Cut(rest, `\`)
			out.Parts = append(out.Parts, &syntax.Lit{Value: plain})
			if found && behind != "" {
				out.Parts = append(out.Parts, &syntax.SglQuoted{Value: behind[:1]})
				behind = behind[1:]
			}
			rest = behind
		}
	}
	return out
}

// static returns an error if a word's value depends on more than known variables.
func (c *Conf) static(w *syntax.Word) error {
	if len(w.Parts) > 0 {
		if lit, ok := w.Parts[0].(*syntax.Lit); ok && strings.HasPrefix(lit.Value, "~") {
			return errors.New("a home directory")
		}
	}
	var err error
	params := 0
	syntax.Walk(w, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.CmdSubst, *syntax.ProcSubst:
			err = errors.New("a command substitution, which cfgd does not run")
		case *syntax.ArithmExp:
			err = errors.New("an arithmetic expansion")
		case *syntax.ParamExp:
			params++
			err = c.staticParam(n, params)
		}
		return err == nil
	})
	return err
}

// staticParam is static for one parameter expansion, the nth of its word.
func (c *Conf) staticParam(p *syntax.ParamExp, nth int) error {
	switch {
	case p.Param == nil || !syntax.ValidName(p.Param.Value):
		return errors.New("a parameter that only a running shell has")
	case nth > maxParams:
		return fmt.Errorf("more than %d parameters", maxParams)
	}
	if escapedIn(p) {
		return errors.New("a backslash in an expansion")
	}
	if v, set := c.vars[p.Param.Value]; set && !v.known {
		return fmt.Errorf("the value of %s, which is unknown since %s", p.Param.Value, v.origin)
	}
	return nil
}

// escapedIn reports whether the word of ${x:-word} has a backslash, which has different meanings in and
// outside of quotes.
func escapedIn(p *syntax.ParamExp) bool {
	found := false
	if p.Exp != nil && p.Exp.Word != nil {
		syntax.Walk(p.Exp.Word, func(n syntax.Node) bool {
			lit, ok := n.(*syntax.Lit)
			found = found || ok && strings.Contains(lit.Value, `\`)
			return !found
		})
	}
	return found
}

// environ gives the library's expansion access to the variables. ${x:=y} assigns through Set.
type environ struct {
	c  *Conf
	at conffile.Origin
}

func (e *environ) Get(name string) expand.Variable {
	v, ok := e.c.vars[name]
	if !ok {
		return expand.Variable{}
	}
	return expand.Variable{Set: true, Kind: expand.String, Str: v.value}
}

func (e *environ) Each(func(string, expand.Variable) bool) {}

func (e *environ) Set(name string, v expand.Variable) error {
	if len(v.Str) > maxValue {
		return errors.New("value too long")
	}
	e.c.vars[name] = variable{value: v.Str, known: true, origin: e.at}
	return nil
}
