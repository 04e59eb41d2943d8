package main

import "path/filepath"

// legacyNames are the scripts of which cfgd does the work when a link to it bears their name, as words of its own command line.
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

// legacy puts the words of cfgd's command line in the place of a script's name.
func legacy(args []string) []string {
	words, ok := legacyNames[filepath.Base(args[0])]
	if !ok {
		return args
	}
	return append(append([]string{"cfgd"}, words...), args[1:]...)
}
