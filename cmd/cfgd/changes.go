package main

import (
	"fmt"
	"strings"

	"cfgd/internal/pathname"
)

// listed is a path and what was done with it.
type listed struct {
	pathname.JSON
	Change string `json:"change,omitempty"`
	letter string
	path   string
}

var changeWords = map[string]string{"A": "added", "M": "modified", "D": "deleted", "T": "type", "P": "mode",
	"R": "released",
}

func newListed(letter, path string) listed {
	return listed{pathname.FromPath(path), changeWords[letter], letter, path}
}

// written is what was done with paths of a target, and the generation that has it.
type written struct {
	Version    int      `json:"version"`
	Target     string   `json:"target"`
	Generation int      `json:"generation"`
	Changes    []listed `json:"changes"`
}

func printListed(b *strings.Builder, target string, changes []listed) {
	for _, c := range changes {
		fmt.Fprintf(b, "%s %s %s\n", target, c.letter, pathname.Quote(c.path))
	}
}

func printWritten(b *strings.Builder, r written) {
	printListed(b, r.Target, r.Changes)
	fmt.Fprintf(b, "%s saved as generation %d\n", r.Target, r.Generation)
}
