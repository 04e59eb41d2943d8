package main

import "path/filepath"

// legacyNames maps the name of a script to words of cfgd's command line. A link to cfgd with that name does
// the same.
var legacyNames = map[string][]string{
	"jail_etc_init":    {"jail", "init"},
	"jail_etc_cleanup": {"jail", "cleanup"},
	"save_cfg":         {"save", "host"},
	"cfgsync":          {"save", "host"},
	"updatep1":         {"nano", "install", "--slice", "1", "-"},
	"updatep2":         {"nano", "install", "--slice", "2", "-"},
	"upgradep1":        {"nano", "install", "--slice", "1", "-"},
	"upgradep2":        {"nano", "install", "--slice", "2", "-"},
}

// legacy replaces a script's name by the words of cfgd's command line.
func legacy(args []string) []string {
	words, ok := legacyNames[filepath.Base(args[0])]
	if !ok {
		return args
	}
	return append(append([]string{"cfgd"}, words...), args[1:]...)
}
