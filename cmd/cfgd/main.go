// Command cfgd makes a server's /etc in memory safe to edit: see README.md and cfgd(8).
//
// It owns the command line: words, flags, output and exit status. Each command has a file here: it reads the
// flags, calls the package that does the work, and prints the result. The result of a command is a value;
// a function prints it as text, and --json prints it as it is.
//
// A session (session.go) is the run of one command line. Its machine (machine.go) is the loaded model
// with what each package needs. The list of the commands is in commands.go; commandline.go puts the words
// in order; output.go prints results, warnings and errors; exit.go turns errors into exit statuses.
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
	return runLine(ctx, &session{in: os.Stdin, out: os.Stdout, err: os.Stderr, args: legacy(os.Args)})
}
