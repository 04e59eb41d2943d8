package main

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

// sample is a cfgd.toml with all keys and their defaults.
//
//go:embed cfgd.toml.sample
var sample string

func (s *session) helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Usage: "show how a command is used, or all keys of cfgd.toml", ArgsUsage: "[COMMAND…|cfgd.toml]",
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
			args := append(append([]string{"cfgd"}, strings.Fields(l.words())...), "--help") // past arrange, which would lead here again
			a := s.app()
			a.HideHelp = false
			for _, sub := range a.Commands {
				helped(sub)
			}
			return a.RunContext(c.Context, args)
		},
	}
}

// helped lets the library answer --help.
func helped(c *cli.Command) {
	c.HideHelp = false
	for _, sub := range c.Subcommands {
		helped(sub)
	}
}
