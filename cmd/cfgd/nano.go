package main

import "github.com/urfave/cli/v2"

func nanoCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "nano", Usage: "NanoBSD's slices: status, a new image, which one boots",
		Subcommands: []*cli.Command{
			nanoStatusCommand(s), nanoInstallCommand(s), nanoActivateCommand(s), nanoRollbackCommand(s),
			nanoConfirmCommand(s),
		},
	}
}
