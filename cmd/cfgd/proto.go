package main

import "github.com/urfave/cli/v2"

func protoCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "proto", Usage: "create prototypes, and take, send and prune their snapshots",
		Subcommands: []*cli.Command{
			protoListCommand(s), protoCreateCommand(s), protoSnapshotCommand(s), protoSendCommand(s),
			protoPruneCommand(s),
		},
	}
}
