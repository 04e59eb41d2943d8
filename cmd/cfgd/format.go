package main

import (
	"fmt"
	"time"
)

// dash returns a text, or "-" if it is empty.
func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// countText returns a number with its noun.
func countText(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// clockOrDay prints a time of today by the clock, and another day's by its date, as ps(1) does.
func clockOrDay(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if t.Year() == now.Year() && t.YearDay() == now.YearDay() {
		return t.Format(time.TimeOnly)
	}
	return t.Format(time.DateOnly)
}

// bytesText prints a number of bytes in three digits and a unit, of 1024, as df -h does.
func bytesText(n uint64) string {
	const units = "BKMGTPE"
	f, u := float64(n), 0
	for f >= 999.5 && u < len(units)-1 {
		f, u = f/1024, u+1
	}
	if f < 10 && u > 0 {
		return fmt.Sprintf("%.1f%c", f, units[u])
	}
	return fmt.Sprintf("%.0f%c", f, units[u])
}
