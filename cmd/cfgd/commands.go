package main

import (
	"cmp"
	"context"
	"io"
	"path/filepath"
	"strings"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"
)

// runLine runs the command line of a session and returns its exit status.
func runLine(ctx context.Context, s *session) int {
	app := newApp(s)
	args, err := arrange(app, s.args)
	s.badArgs = err // readGlobalFlags reports it
	return s.exitStatus(app.RunContext(ctx, args))
}

// newApp describes the whole command line.
func newApp(s *session) *cli.App {
	a := &cli.App{
		Name:      "cfgd",
		Usage:     "make a server's /etc in memory safe to edit",
		UsageText: "cfgd [--root DIR] [--config FILE] [--json] [--log-level LEVEL] COMMAND …",
		Description: "" +
			"A target is an /etc that cfgd saves: TARGET is host, or the name of a jail. Where it is " +
			"optional, all targets are meant. A target has three trees: base, the read-only defaults; " +
			"cfg, where what differs from base is saved; live, the /etc in memory. An override is a file " +
			"that is saved in cfg. A generation is a numbered state of cfg. cfgd(8) explains all words.\n\n" +
			"PATH is relative to the target's etc, as rc.conf or local/nginx; a directory means " +
			"everything below it. LEVEL is debug, info, warn or error.\n\n" +
			"Exit status: 0 done, or no difference; 1 a difference or an unsaved change; 2 failed; " +
			"3 some targets failed and others did not; 64 usage; 78 configuration.",
		Flags:    globalFlags(s),
		Commands: allCommands(s),
		Before:   func(c *cli.Context) error { return readGlobalFlags(s, c) },
		// arrange finds --help; the library's own help flag is one variable of the whole process
		HideHelp:               true,
		HideHelpCommand:        true,
		HideVersion:            true,
		UseShortOptionHandling: false,
		Writer:                 s.out,
		ErrWriter:              io.Discard, // errors are printed in one place, with the exit status
		ExitErrHandler:         func(*cli.Context, error) {},
		OnUsageError:           onUsageError,
		Action: func(c *cli.Context) error {
			return usagef("which command? cfgd help lists them")
		},
	}
	hideFalse(a.Flags)
	for _, c := range a.Commands {
		finishCommand(c)
	}
	return a
}

// globalFlags are the flags that stand before any command.
func globalFlags(s *session) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{
			Name: "root", Usage: "work on the system below `DIR`; mount nothing", Destination: &s.root,
		},
		&cli.StringFlag{
			Name: "config", Usage: "read `FILE` instead of /usr/local/etc/cfgd.toml", Destination: &s.config,
		},
		&cli.BoolFlag{Name: "json", Usage: "print one JSON object", Destination: &s.json},
		&cli.StringFlag{Name: "log-level", Usage: "log only from this `LEVEL` on", Value: "info"},
	}
}

// allCommands are all commands, in the order in which help lists them.
func allCommands(s *session) []*cli.Command {
	return []*cli.Command{
		statusCommand(s), reportCommand(s), diffCommand(s), saveCommand(s), restoreCommand(s), logCommand(s),
		showCommand(s), rollbackCommand(s), planCommand(s), resolveCommand(s), pinCommand(s), unpinCommand(s),
		checkCommand(s), jailCommand(s), protoCommand(s), relocateCommand(s), hostCommand(s), nanoCommand(s),
		setupCommand(s), rescueCommand(s), daemonCommand(s), demoCommand(s, runLine), versionCommand(s),
		completionCommand(s), helpCommand(s),
	}
}

// finishCommand sets what all commands have in common.
func finishCommand(c *cli.Command) {
	c.OnUsageError = onUsageError
	c.HideHelp, c.HideHelpCommand = true, true
	c.Flags = append(c.Flags, &cli.BoolFlag{Name: "help", Aliases: []string{"h"}, Usage: "show help"})
	hideFalse(c.Flags)
	for _, sub := range c.Subcommands {
		sub.HelpName = "cfgd " + c.Name + " " + sub.Name
		finishCommand(sub)
	}
	c.UsageText = usageText(c)
	if len(c.Subcommands) > 0 {
		c.Action = func(ctx *cli.Context) error {
			return usagef("cfgd %s: which command? cfgd help %s lists them", c.Name, c.Name)
		}
		return
	}
	do := c.Action
	c.Action = func(ctx *cli.Context) error {
		if err := counted(ctx); err != nil {
			return err
		}
		return do(ctx)
	}
}

// usageText returns the form of a command line, for the help. Every command has --help, so only other flags
// count as options.
func usageText(c *cli.Command) string {
	words := []string{cmp.Or(c.HelpName, "cfgd "+c.Name)}
	if len(c.Flags) > 1 {
		words = append(words, "[OPTION…]")
	}
	if len(c.Subcommands) > 0 {
		words = append(words, "COMMAND …")
	}
	if c.ArgsUsage != "" {
		words = append(words, c.ArgsUsage)
	}
	return strings.Join(words, " ")
}

// hideFalse keeps "(default: false)" out of the help.
func hideFalse(flags []cli.Flag) {
	for _, f := range flags {
		if b, ok := f.(*cli.BoolFlag); ok {
			b.DisableDefaultText = true
		}
	}
}

func onUsageError(_ *cli.Context, err error, _ bool) error { return usageError{err} }

// readGlobalFlags reads the flags of all commands.
func readGlobalFlags(s *session, c *cli.Context) (err error) {
	if s.level, err = zerolog.ParseLevel(c.String("log-level")); err != nil || s.level == zerolog.NoLevel {
		return usagef("--log-level %s: debug, info, warn or error", c.String("log-level"))
	}
	if s.badArgs != nil {
		return s.badArgs
	}
	if c.IsSet("root") && s.root == "" {
		return usagef("--root \"\": give it a directory; without --root cfgd works on the machine itself")
	}
	s.root, err = rootDir(s.root)
	return err
}

// rootDir makes --root absolute, because paths in messages and of sockets must not depend on the working
// directory.
func rootDir(root string) (string, error) {
	if root == "" {
		return "", nil
	}
	return filepath.Abs(root)
}
