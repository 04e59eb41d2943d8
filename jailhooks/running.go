package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"

	"cfgd/internal/run"
)

// noJail matches jls(8)'s message about a jail that does not run, or whose last connections are closing.
var noJail = regexp.MustCompile(`not found|is dying`)

// RunningCommand returns the jls(8) command that exits 0 if a jail runs.
func RunningCommand(jail string) run.Cmd { return run.Command("jls", "-j", jail, "jid") }

// running reports whether a jail runs. If jls(8) fails for another reason, it returns an error and not
// false.
func running(ctx context.Context, r run.Runner, jail string) (bool, error) {
	_, err := r.Run(ctx, RunningCommand(jail))
	var failed *run.Error
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, exec.ErrNotFound): // a system without jails
		return false, nil
	case errors.As(err, &failed) && noJail.MatchString(failed.Stderr):
		return false, nil
	}
	return false, fmt.Errorf("whether the jail runs is not known: %w", err)
}
