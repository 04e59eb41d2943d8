package config

import "fmt"

// Origin is where a value came from: a file as the configuration names it, and a line counted from 1.
// Line 0 means that the value is built in or follows from others.
type Origin struct {
	File string
	Line int
}

// String returns file:line, the file alone if there is no line, and "built in" if there is no file.
func (o Origin) String() string {
	switch {
	case o.File == "":
		return "built in"
	case o.Line == 0:
		return o.File
	}
	return fmt.Sprintf("%s:%d", o.File, o.Line)
}

// located is a value with its origin.
type located struct {
	value string
	at    Origin
}

// values returns the values without their origins.
func values(ls []located) []string {
	out := make([]string, len(ls))
	for i, l := range ls {
		out[i] = l.value
	}
	return out
}
