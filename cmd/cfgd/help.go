package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

func (s *session) helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Usage: "show how a command is used", ArgsUsage: "[COMMAND…]",
		Action: func(c *cli.Context) error {
			words := c.Args().Slice()
			if len(words) == 0 {
				return cli.ShowAppHelp(c)
			}
			l := line{app: s.app()}
			for _, w := range words {
				if !l.descend(w) {
					return usagef("%s: no such command; cfgd help lists them", strings.Join(words, " "))
				}
			}
			args := append(append([]string{"cfgd"}, strings.Fields(l.words())...), "--help") // past arrange, which would lead here again
			return s.app().RunContext(c.Context, args)
		},
	}
}
