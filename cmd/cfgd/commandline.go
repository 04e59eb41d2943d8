package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"cfgd/internal/pathname"
)

// arrange puts flags before arguments, because urfave/cli takes every word after the first argument for an
// argument.
func arrange(app *cli.App, args []string) ([]string, error) {
	l := commandLine{app: app}
	if err := l.read(args[1:]); err != nil {
		return args[:1], usageError{err}
	}
	out := append([]string{args[0]}, l.global...)
	if l.help {
		return append(append(out, "help"), strings.Fields(l.words())...), nil
	}
	for _, c := range l.path {
		out = append(out, c.Name)
	}
	out = append(out, l.flags...)
	if len(l.args) > 0 {
		out = append(append(out, "--"), l.args...)
	}
	return out, nil
}

// commandLine is a parsed command line.
type commandLine struct {
	app           *cli.App
	path          []*cli.Command
	global, flags []string
	args          []string
	help          bool // --help is somewhere on the line
}

func (l *commandLine) read(words []string) error {
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "--":
			l.args = append(l.args, words[i+1:]...)
			return nil
		case len(w) > 1 && w[0] == '-':
			taken, err := l.flag(w, words[i+1:])
			if err != nil {
				return err
			}
			i += taken
		case len(l.args) == 0 && l.descend(w):
		case l.group():
			return fmt.Errorf("%s: no such command; cfgd help lists them", strings.TrimSpace(l.words()+" "+w))
		default:
			l.args = append(l.args, w)
		}
	}
	return nil
}

// command returns the command that the words so far name; nil if there are none.
func (l *commandLine) command() *cli.Command {
	if len(l.path) == 0 {
		return nil
	}
	return l.path[len(l.path)-1]
}

func (l *commandLine) commands() []*cli.Command {
	if c := l.command(); c != nil {
		return c.Subcommands
	}
	return l.app.Commands
}

// group reports whether the words so far need another word to be a command.
func (l *commandLine) group() bool { return len(l.commands()) > 0 }

func (l *commandLine) descend(word string) bool {
	for _, c := range l.commands() {
		if c.HasName(word) {
			l.path = append(l.path, c)
			return true
		}
	}
	return false
}

func (l *commandLine) words() string {
	var names []string
	for _, c := range l.path {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

// flag puts one flag and its value where they belong. It returns how many of the following words it used.
func (l *commandLine) flag(word string, rest []string) (int, error) {
	name, _, joined := strings.Cut(strings.TrimLeft(word, "-"), "=")
	switch {
	case name == "help" || name == "h":
		l.help = true
		return 0, nil
	case name == "version" && len(l.path) == 0:
		l.descend("version")
		return 0, nil
	}
	f, to := l.find(name)
	if f == nil && len(word) > 2 && word[1] != '-' { // -U3
		if f, to = l.find(word[1:2]); f != nil && !isBool(f) {
			*to = append(*to, word[:2], word[2:])
			return 0, nil
		}
		f = nil
	}
	switch {
	case f == nil && len(l.path) == 0:
		return 0, fmt.Errorf("%s: no such flag; cfgd help lists them", word)
	case f == nil:
		return 0, fmt.Errorf("%s: no such flag of cfgd %s; cfgd help %s lists them", word, l.words(),
			l.words())
	case isBool(f) || joined:
		*to = append(*to, word)
		return 0, nil
	case len(rest) == 0:
		return 0, fmt.Errorf("%s: its value is missing", word)
	}
	*to = append(*to, word, rest[0])
	return 1, nil
}

// find looks for a flag of the command, then for one of the program.
func (l *commandLine) find(name string) (cli.Flag, *[]string) {
	if c := l.command(); c != nil {
		for _, f := range c.Flags {
			if slices.Contains(f.Names(), name) {
				return f, &l.flags
			}
		}
	}
	for _, f := range l.app.Flags {
		if slices.Contains(f.Names(), name) {
			return f, &l.global
		}
	}
	return nil, nil
}

func isBool(f cli.Flag) bool { _, ok := f.(*cli.BoolFlag); return ok }

// counted checks the number of arguments by the usage of the command: [WORD] may be left out, and WORD…
// may be repeated.
func counted(c *cli.Context) error {
	usage := c.Command.ArgsUsage
	least := len(strings.Fields(outside(usage)))
	most := len(strings.Fields(usage))
	n := c.NArg()
	switch {
	case n < least:
		return usagef("%s: %s is missing", usageOf(c), missing(usage, n))
	case n > most && !strings.Contains(usage, "…"):
		return usagef("%s: %q is one argument too many", usageOf(c), c.Args().Get(most))
	}
	return nil
}

// outside returns what is outside the brackets of a usage.
func outside(usage string) string {
	depth := 0
	return strings.Map(func(r rune) rune {
		switch r {
		case '[':
			depth++
		case ']':
			depth--
			return -1
		}
		if depth > 0 {
			return -1
		}
		return r
	}, usage)
}

// usageOf returns a command with its arguments, as it is typed.
func usageOf(c *cli.Context) string {
	return strings.TrimSpace(c.Command.HelpName + " " + c.Command.ArgsUsage)
}

// missing returns the first word of the usage that the n arguments do not fill.
func missing(usage string, n int) string {
	if words := strings.Fields(usage); n < len(words) {
		return words[n]
	}
	return "an argument"
}

// pathArgs reads PATH arguments.
func pathArgs(args []string) ([]string, error) {
	var out []string
	for _, a := range args {
		if a == "" { // a script's variable that is not set must not mean everything
			return nil, usagef("a PATH is empty; / is the whole tree")
		}
		if a == "/" {
			a = ""
		}
		p, err := pathname.Clean(a)
		if err != nil {
			return nil, usageError{err}
		}
		out = append(out, p)
	}
	return out, nil
}

// below reports whether a path is one of the given paths or below one. If none is given, every path is.
func below(path string, only []string) bool {
	if len(only) == 0 {
		return true
	}
	for _, dir := range only {
		if dir == "" || path == dir || len(path) > len(dir) && path[:len(dir)] == dir &&
			path[len(dir)] == '/' {
			return true
		}
	}
	return false
}
