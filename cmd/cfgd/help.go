package main

import (
	_ "embed"
	"strings"

	"github.com/urfave/cli/v2"
)

// sample is a cfgd.toml with all keys and their defaults.
//
//go:embed cfgd.toml.sample
var sample string

// columns is the width of help.
const columns = 80

func helpCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "help", Usage: "show how to use a command, or all keys of cfgd.toml",
		ArgsUsage: "[COMMAND…|cfgd.toml]",
		Action:    s.action(runHelp),
	}
}

// groupTemplate lists the commands of a group. The library's lists them by category, and sorts them only in a
// command that runs.
var groupTemplate = strings.Replace(cli.SubcommandHelpTemplate, "visibleCommandCategoryTemplate",
	"visibleCommandTemplate", 1)

func runHelp(s *session, c *cli.Context) error {
	words := c.Args().Slice()
	if len(words) == 1 && words[0] == "cfgd.toml" {
		return s.printf("%s", sample)
	}
	l := commandLine{app: c.App}
	for _, w := range words {
		if !l.descend(w) {
			return usagef("%s: no such command; cfgd help lists them", strings.Join(words, " "))
		}
	}
	var b strings.Builder
	wrap := map[string]any{"wrapAt": func() int { return columns }}
	switch {
	case len(words) == 0:
		cli.HelpPrinterCustom(&b, cli.AppHelpTemplate, c.App, wrap)
	case l.group():
		cli.HelpPrinterCustom(&b, groupTemplate, l.command(), wrap)
	default:
		cli.HelpPrinterCustom(&b, cli.CommandHelpTemplate, l.command(), wrap)
	}
	return s.printf("%s", b.String())
}
