package main

import "github.com/urfave/cli/v2"

func jailCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "jail", Usage: "jails: hooks of their start and stop, switches, clones",
		Subcommands: []*cli.Command{
			initCommand(s), cleanupCommand(s), switchCommand(s), jailRollbackCommand(s), createCommand(s),
			cloneCommand(s), destroyCommand(s), jailSnapshotCommand(s), jailSendCommand(s),
			jailListCommand(s),
		},
	}
}
