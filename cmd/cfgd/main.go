// Command cfgd makes a server's /etc in memory safe to edit: see README.md and cfgd(8).
//
// It owns the command line: words, flags, output and exit status. Each command has a file here, and calls a
// package that does the work.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { os.Exit(Main()) }

// Main runs the command line of this process and returns its exit status.
func Main() int {
	// The first signal ends the command in order, which may take a while. A second one kills it. The daemon
	// handles SIGTERM in the same way.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return run(ctx, &session{in: os.Stdin, out: os.Stdout, err: os.Stderr, args: legacy(os.Args)})
}
