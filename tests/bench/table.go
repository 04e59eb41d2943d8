package main

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// row is a line of the table.
type row struct {
	name, ours, peer, ratio, target, reached string
}

func printTable(w io.Writer, rows []row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "WORK\tOURS\tPEER\tRATIO\tTARGET\tREACHED")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", r.name, dash(r.ours), dash(r.peer), dash(r.ratio),
			dash(r.target), dash(r.reached))
	}
	return t.Flush()
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// versus returns a row of two times. A limit of 0 means that there is no target.
func versus(name string, ours time.Duration, peerName string, peer time.Duration, limit float64) row {
	ratio := float64(ours) / float64(peer)
	r := row{
		name: name, ours: short(ours), peer: peerName + " " + short(peer), ratio: fmt.Sprintf("%.3f", ratio),
	}
	if limit > 0 {
		r.target, r.reached = fmt.Sprintf("<= %.3g", limit), yes(ratio <= limit)
	}
	return r
}

// within returns a row of a time with a bound.
func within(name string, ours, limit time.Duration) row {
	return row{name: name, ours: short(ours), target: "< " + limit.String(), reached: yes(ours < limit)}
}

// skipped returns a row for a peer that is not installed.
func skipped(name string, ours time.Duration, peer string) row {
	return row{name: name, ours: short(ours), peer: "skipped: " + peer + " not installed"}
}

func yes(ok bool) string {
	if ok {
		return "yes"
	}
	return "NO"
}

// short formats a time with three digits.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 100*time.Millisecond:
		return fmt.Sprintf("%.0f ms", ms(d))
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", ms(d))
	}
	return fmt.Sprintf("%.2f ms", ms(d))
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
