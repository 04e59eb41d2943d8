package rcconf

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"mvdan.cc/sh/v3/syntax"

	"cfgd/config/conffile"
)

// maxFile is the size in bytes above which an rc.conf is refused. A thousand jails take half of it.
// The parser's stack grows with nesting, and stays far from Go's limit, at which the program would be
// killed.
const maxFile = 256 << 10

// parse reads and parses a shell file. nil without an error means that the file does not exist.
func (c *Conf) parse(name string) (*syntax.File, error) {
	data, err := c.read.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, conffile.FileError(name, err)
	}
	return parseShell(name, data)
}

// parseShell parses POSIX shell. A *conffile.Error says where it is malformed.
func parseShell(name string, data []byte) (*syntax.File, error) {
	if len(data) > maxFile {
		return nil, &conffile.Error{
			File:    name,
			Message: fmt.Sprintf("larger than %d KiB, which no rc.conf is", maxFile>>10),
		}
	}
	parsed, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(string(data)),
		name)
	var pe syntax.ParseError
	var le syntax.LangError
	switch {
	case errors.As(err, &pe):
		return nil, shellError(name, pe.Pos, pe.Text, err)
	case errors.As(err, &le):
		return nil, shellError(name, le.Pos, le.Feature+" is not POSIX shell", err)
	case err != nil:
		return nil, conffile.FileError(name, err)
	}
	return parsed, nil
}

func shellError(name string, pos syntax.Pos, text string, err error) *conffile.Error {
	return &conffile.Error{File: name, Line: int(pos.Line()), Col: int(pos.Col()), Message: text,
		Fix: "mend it: sh -n " + name + " shows it too", Err: err}
}

// constructName names a construct that is not followed.
func constructName(cmd syntax.Command) string {
	switch cmd.(type) {
	case *syntax.IfClause:
		return "an if, which cfgd does not run"
	case *syntax.ForClause, *syntax.WhileClause:
		return "a loop, which cfgd does not run"
	case *syntax.CaseClause:
		return "a case, which cfgd does not run"
	case *syntax.FuncDecl:
		return "a function, which cfgd does not run"
	case *syntax.BinaryCmd:
		return "a condition or pipe, which cfgd does not run"
	case *syntax.Subshell:
		return "a subshell, which sets nothing outside of it"
	}
	return "a command that cfgd does not run"
}

// mentions reports whether a word expands a variable.
func mentions(w *syntax.Word, name string) bool {
	found := false
	if w != nil {
		syntax.Walk(w, func(n syntax.Node) bool {
			if p, ok := n.(*syntax.ParamExp); ok && p.Param != nil && p.Param.Value == name {
				found = true
			}
			return !found
		})
	}
	return found
}

// touched returns the variables that matter and that a node may set, in the order of the text.
func touched(n syntax.Node) []string {
	var names []string
	seen := map[string]bool{}
	for _, name := range assignedIn(n) {
		if matters(name) && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// setters are the commands that set variables named in their arguments.
var setters = map[string]bool{"eval": true, "read": true, "setvar": true, "unset": true, "export": true,
	"readonly": true,
	"local":    true, "getopts": true, "sysrc": true}

// jailVariable finds a variable's name in an argument of such a command, and the parts around what only a
// shell knows.
var jailVariable = regexp.MustCompile(`\bjail_[A-Za-z0-9_]*`)

// assignedIn returns every variable that a node may set.
func assignedIn(n syntax.Node) []string {
	var names []string
	syntax.Walk(n, func(n syntax.Node) bool {
		switch n := n.(type) {
		case *syntax.Assign:
			if n.Name != nil && !n.Naked {
				names = append(names, n.Name.Value)
			}
		case *syntax.ForClause:
			if it, ok := n.Loop.(*syntax.WordIter); ok {
				names = append(names, it.Name.Value)
			}
		case *syntax.ParamExp:
			if n.Param != nil && n.Exp != nil &&
				(n.Exp.Op == syntax.AssignUnset || n.Exp.Op == syntax.AssignUnsetOrNull) {
				names = append(names, n.Param.Value)
			}
		case *syntax.CallExpr:
			names = append(names, setByCommand(n)...)
		}
		return true
	})
	return names
}

// setByCommand returns what a command sets by its arguments, such as eval and sysrc, or would in another
// shell (x+=y).
func setByCommand(cmd *syntax.CallExpr) []string {
	if len(cmd.Args) == 0 {
		return nil
	}
	first := cmd.Args[0]
	if name, _, ok := strings.Cut(first.Lit(), "+="); ok && syntax.ValidName(name) {
		return []string{name}
	}
	if len(first.Parts) > 1 { // jail_list+="$x", of which only the beginning is literal
		if lit, ok := first.Parts[0].(*syntax.Lit); ok && strings.Contains(lit.Value, "=") {
			return jailVariable.FindAllString(lit.Value, 1)
		}
	}
	if !setters[path.Base(first.Lit())] {
		return nil
	}
	var names []string
	for _, w := range cmd.Args[1:] {
		syntax.Walk(w, func(n syntax.Node) bool {
			switch n := n.(type) {
			case *syntax.Lit:
				names = append(names, jailVariable.FindAllString(n.Value, -1)...)
			case *syntax.SglQuoted:
				names = append(names, jailVariable.FindAllString(n.Value, -1)...)
			case *syntax.ParamExp:
				return false
			}
			return true
		})
	}
	return names
}
