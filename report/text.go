package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"cfgd/internal/pathname"
)

// Text returns the findings, and what was saved, as text for people.
func Text(f *Facts, all []Finding, since time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "cfgd on %s: %s\n", f.Host, counted(len(all), "finding"))
	width := 0
	for _, x := range all {
		width = max(width, len(targetName(x.Target)))
	}
	for _, x := range all {
		words := x.Words
		if x.Kind == "unsaved" {
			words += ", unsaved since " + x.Since.Local().Format("2006-01-02 15:04")
		} else if x.Since.Before(f.Now) {
			words += ", since " + x.Since.Local().Format("2006-01-02 15:04")
		}
		if len(x.Paths) > 0 {
			words += ": " + pathname.QuoteFew(x.Paths, paths)
		}
		fmt.Fprintf(&b, "%-*s  %s\n", width, targetName(x.Target), pathname.Plain(words))
		fmt.Fprintf(&b, "%-*s    %s\n", width, "", pathname.Plain(x.Settle))
	}
	for _, t := range f.Targets {
		if n := times(t.Saves); len(n) > 0 {
			fmt.Fprintf(&b, "%s saved since %s: %s\n", t.Name, since.Local().Format("2006-01-02 15:04"),
				often(n))
		}
	}
	return b.String()
}

// targetName returns a target's name, or "-" for the machine.
func targetName(target string) string { return cmp.Or(target, "-") }

func often(n map[string]int) string {
	var all []string
	for p := range n {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b string) int { return cmp.Or(n[b]-n[a], pathname.Compare(a, b)) })
	var words []string
	for _, p := range all {
		w := pathname.Quote(p)
		if n[p] > 1 {
			w += fmt.Sprintf(" (%d times)", n[p])
		}
		words = append(words, w)
	}
	return pathname.Few(words, paths)
}
