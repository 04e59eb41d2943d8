package main

import "github.com/urfave/cli/v2"

func jailCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "jail", Usage: "run the hooks of jails; create, clone, switch and destroy jails",
		Subcommands: []*cli.Command{
			initCommand(s), cleanupCommand(s), switchCommand(s), jailRollbackCommand(s), createCommand(s),
			cloneCommand(s), destroyCommand(s), jailSnapshotCommand(s), jailSendCommand(s),
			jailListCommand(s),
		},
	}
}
