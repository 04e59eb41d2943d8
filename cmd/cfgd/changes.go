package main

import (
	"fmt"
	"strings"

	"cfgd/internal/pathname"
)

// listedChange is a path and what was done with it.
type listedChange struct {
	pathname.JSON
	Change string `json:"change,omitempty"`
	letter string
	path   string
}

var changeWords = map[string]string{"A": "added", "M": "modified", "D": "deleted", "T": "type", "P": "mode",
	"R": "released",
}

func newListedChange(letter, path string) listedChange {
	return listedChange{pathname.FromPath(path), changeWords[letter], letter, path}
}

// written is what was done with paths of a target, and the generation that has it.
type written struct {
	Version    int            `json:"version"`
	Target     string         `json:"target"`
	Generation int            `json:"generation"`
	Changes    []listedChange `json:"changes"`
}

func printChanges(b *strings.Builder, target string, changes []listedChange) {
	for _, c := range changes {
		fmt.Fprintf(b, "%s %s %s\n", target, c.letter, pathname.Quote(c.path))
	}
}

func printWritten(b *strings.Builder, r written) {
	printChanges(b, r.Target, r.Changes)
	fmt.Fprintf(b, "%s saved as generation %d\n", r.Target, r.Generation)
}
