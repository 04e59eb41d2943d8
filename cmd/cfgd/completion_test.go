package main

import (
	"io"
	"strings"
	"testing"
)

// A shell offers each flag of a command by all its names, but not --help: after a command that takes no flag,
// it offers targets or files at once.
func TestCompletedFlags(t *testing.T) {
	t.Parallel()
	a := newApp(&session{out: io.Discard, err: io.Discard})
	for _, c := range []struct {
		shell, want string
		there       bool
	}{
		{"bash", `"save") words="--dry-run -n --force -f --message -m" ;;`, true},
		{"bash", `"rollback") words="" ;;`, true},
		{"bash", `"jail init") words="--plan --all" ;;`, true},
		{"fish", "'__fish_seen_subcommand_from save' -s n ", true},
		{"fish", "show help", false},
	} {
		if got := strings.Contains(completions[c.shell](a), c.want); got != c.there {
			t.Errorf("%s: %s: %v", c.shell, c.want, got)
		}
	}
}
