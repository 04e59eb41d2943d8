package jailhooks

import (
	"context"
	"fmt"
	"strings"

	"cfgd/internal/pathname"
	"cfgd/internal/run"
)

// usersOf says who has files open on a filesystem, and by which command one sees it.
func (h *Hooks) usersOf(ctx context.Context, dir string) string {
	if h.GOOS == "linux" {
		return "fuser -vm " + dir + " shows who uses it"
	}
	fstat := run.Command("fstat", "-f", dir)
	words := fstat.String() + " shows who uses it"
	if out, err := h.Run.Run(ctx, fstat); err == nil && fstatUsers(out) != "" {
		words += ": " + fstatUsers(out)
	}
	return words
}

// maxUsers is how many processes a message names.
const maxUsers = 5

// fstatUsers names the processes in the output of fstat(1), as in "sleep (661), vi (702)"; "" if there are
// none. A line is USER CMD PID FD and more. A process chooses its command name, which may contain spaces.
func fstatUsers(out string) string {
	var all []string
	seen := map[string]bool{}
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		pid := 2
		for pid < len(f) && strings.Trim(f[pid], "0123456789") != "" {
			pid++
		}
		if pid >= len(f) || seen[f[pid]] {
			continue
		}
		seen[f[pid]] = true
		all = append(all, fmt.Sprintf("%s (%s)", pathname.Plain(strings.Join(f[1:pid], " ")), f[pid]))
	}
	return pathname.Few(all, maxUsers)
}
