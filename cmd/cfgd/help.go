package main

import (
	_ "embed"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// sample is a cfgd.toml with all keys and their defaults.
//
//go:embed cfgd.toml.sample
var sample string

func helpCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "help", Usage: "show how to use a command, or all keys of cfgd.toml",
		ArgsUsage: "[COMMAND…|cfgd.toml]",
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) == 0 {
				return cli.ShowAppHelp(c)
			}
			if len(words) == 1 && words[0] == "cfgd.toml" {
				_, err := fmt.Fprint(s.out, sample)
				return err
			}
			l := line{app: s.app()}
			for _, w := range words {
				if !l.descend(w) {
					return usagef("%s: no such command; cfgd help lists them", strings.Join(words, " "))
				}
			}
			// not through arrange, which would lead here again
			args := append(append([]string{"cfgd"}, strings.Fields(l.words())...), "--help")
			a := s.app()
			a.HideHelp = false
			for _, sub := range a.Commands {
				helped(sub)
			}
			return a.RunContext(c.Context, args)
		},
	}
}

// helped lets the library handle --help.
func helped(c *cli.Command) {
	c.HideHelp = false
	for _, sub := range c.Subcommands {
		helped(sub)
	}
}

// columns is the width of a line of help, with the indent of three.
const columns = 80

// fold breaks the lines of a description so that help fits the screen. An empty line between paragraphs
// stays.
func fold(text string) string {
	paragraphs := strings.Split(text, "\n\n")
	for i, p := range paragraphs {
		paragraphs[i] = foldLine(p, columns-3)
	}
	return strings.Join(paragraphs, "\n\n")
}

func foldLine(text string, width int) string {
	var b strings.Builder
	used := 0
	for _, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case used == 0:
		case used+1+n > width:
			b.WriteByte('\n')
			used = 0
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += n
	}
	return b.String()
}
