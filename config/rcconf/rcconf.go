package rcconf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"cfgd/config/conffile"
)

// maxFile is the size in bytes above which an rc.conf is refused. A thousand jails take half of it.
// The parser's stack grows with nesting, and stays far from Go's limit, at which the program would be
// killed.
const maxFile = 256 << 10

// maxValue and maxParams bound the expansion of one word: rc.conf could double a value on every
// line.
const (
	maxValue  = 64 << 10
	maxParams = 256
)

// variable is a variable as far as it is known without running anything.
type variable struct {
	value  string
	known  bool // false if only a shell would know the value
	origin conffile.Origin
}

// Assignment is one plain assignment.
type Assignment struct {
	conffile.Located
	Self bool // the value mentions the variable itself, as in jail_list="$jail_list new"
}

// Conf is the state of the variables after reading rc.conf and the related files in the order of
// rc.subr's load_rc_config. Shell is parsed and assignments are followed; nothing is run. Variables set
// in a way that cannot be followed are unknown, with a warning if cfgd reads them.
type Conf struct {
	read     conffile.Reader
	vars     map[string]variable
	assigned map[string][]Assignment // of the variables that matter, to find duplicate assignments
	Problems []conffile.Problem
}

// matters reports whether cfgd reads a variable.
func matters(name string) bool { return strings.HasPrefix(name, "jail_") }

// Load reads what rc.d/jail would: defaults/rc.conf, the files that rc_conf_files names, and
// rc.conf.d/jail below /etc and /usr/local/etc, a file or a directory of files. Files that are not there
// are no error.
func Load(read *conffile.Files) (*Conf, error) {
	c := newConf(read)
	if err := c.file("/etc/defaults/rc.conf"); err != nil {
		return nil, err
	}
	files := []string{"/etc/rc.conf", "/etc/rc.conf.local"}
	if v := c.vars["rc_conf_files"]; v.known && v.value != "" {
		files = strings.Fields(v.value)
	}
	for _, dir := range []string{"/etc/rc.conf.d", "/usr/local/etc/rc.conf.d"} {
		files = append(files, c.rcConfD(read, dir)...)
	}
	for _, f := range files {
		if err := c.file(f); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func newConf(read conffile.Reader) *Conf {
	return &Conf{read: read, vars: map[string]variable{}, assigned: map[string][]Assignment{}}
}

// LoadFile reads one file in the form of rc.conf, such as nanobsd.conf. A missing file sets nothing.
func LoadFile(read conffile.Reader, file string) (*Conf, error) {
	c := newConf(read)
	return c, c.file(file)
}

// rcConfD returns the files of an rc.conf.d that rc.d/jail reads, and warns of jail_ variables in the
// ones that it does not.
func (c *Conf) rcConfD(read *conffile.Files, dir string) []string {
	names, _ := read.Glob(dir + "/*")
	var files []string
	for _, name := range names {
		found := []string{name}
		if read.IsDir(name) {
			found, _ = read.Glob(name + "/*")
		}
		if path.Base(name) == "jail" {
			files = append(files, found...)
			continue
		}
		for _, f := range found {
			c.warnUnread(f)
		}
	}
	return files
}

// warnUnread warns of jail_ variables that are set where nothing reads them: rc.conf.d/NAME is read only
// for the service NAME.
func (c *Conf) warnUnread(file string) {
	parsed, err := c.parse(file)
	if err != nil || parsed == nil {
		return
	}
	if names := touched(parsed); len(names) > 0 {
		c.warn(conffile.At(file, 0), "move it to /etc/rc.conf or /etc/rc.conf.d/jail",
			"sets %s, but rc.d/jail does not read this file", strings.Join(names, ", "))
	}
}

// file evaluates one file. A missing file counts as empty.
func (c *Conf) file(name string) error {
	parsed, err := c.parse(name)
	if err != nil {
		return err
	}
	if parsed != nil {
		c.stmts(name, parsed.Stmts)
	}
	return nil
}

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

// doubt makes all variables unknown that a statement may set.
func (c *Conf) doubt(file string, s *syntax.Stmt, why string) {
	c.taint(conffile.At(file, int(s.Pos().Line())), why, touched(s))
	for _, name := range assignedIn(s) {
		if !matters(name) {
			c.vars[name] = variable{origin: conffile.At(file, int(s.Pos().Line()))}
		}
	}
}

// taint makes variables unknown, and warns of the ones that matter.
func (c *Conf) taint(at conffile.Origin, why string, names []string) {
	var matter []string
	for _, name := range names {
		c.vars[name] = variable{origin: at}
		if matters(name) {
			matter = append(matter, name)
		}
	}
	if len(matter) > 0 {
		c.warn(at, "write it as a plain assignment", "%s depends on %s", strings.Join(matter, ", "), why)
	}
}

func (c *Conf) warn(at conffile.Origin, fix, format string, args ...any) {
	c.Problems = append(c.Problems, conffile.Warn(at, "", fix, format, args...))
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

// get returns a variable's value if it is known and not empty.
func (c *Conf) Get(name string) (string, conffile.Origin, bool) {
	v, ok := c.vars[name]
	if !ok || !v.known || v.value == "" {
		return "", v.origin, false
	}
	return v.value, v.origin, true
}

// yes does the same as checkyesno of rc.subr(8).
func (c *Conf) Yes(name string) bool {
	v, _, _ := c.Get(name)
	switch strings.ToLower(v) {
	case "yes", "true", "on", "1":
		return true
	}
	return false
}

// unknown reports whether a variable is set to what only a shell knows. A warning was given for it.
func (c *Conf) Unknown(name string) bool {
	v, ok := c.vars[name]
	return ok && !v.known
}

// names returns the names of all variables that were set, sorted.
func (c *Conf) Names() []string { return slices.Sorted(maps.Keys(c.vars)) }

// isSet reports whether a variable was set, to whatever value.
func (c *Conf) IsSet(name string) bool {
	_, ok := c.vars[name]
	return ok
}

// doubled returns the jail_ variables that are assigned more than once, sorted.
func (c *Conf) Doubled() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(c.assigned)), func(name string) bool {
		return len(c.assigned[name]) < 2
	})
}

// assignments returns the plain assignments of a jail_ variable, in order.
func (c *Conf) Assignments(name string) []Assignment { return c.assigned[name] }
