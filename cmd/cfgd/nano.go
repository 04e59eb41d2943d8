package main

import "github.com/urfave/cli/v2"

func nanoCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "nano", Usage: "install an image on a NanoBSD host, and choose what boots",
		Subcommands: []*cli.Command{
			nanoStatusCommand(s), nanoInstallCommand(s), nanoActivateCommand(s), nanoRollbackCommand(s),
			nanoConfirmCommand(s),
		},
	}
}
