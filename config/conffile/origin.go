package conffile

import "fmt"

// Origin is where a value came from: a file as the configuration names it, and a line counted from 1.
// Line 0 means that the value is built in or follows from others.
type Origin struct {
	File string
	Line int
}

// At returns the Origin of a line of a file.
func At(file string, line int) Origin { return Origin{file, line} }

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

// Located is a value with its origin.
type Located struct {
	Value string
	At    Origin
}

// Values returns the values without their origins.
func Values(ls []Located) []string {
	out := make([]string, len(ls))
	for i, l := range ls {
		out[i] = l.Value
	}
	return out
}
