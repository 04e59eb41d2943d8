// Package config is the configuration model, the centre of cfgd.
//
// It owns the list of /etc trees: the targets with their base, cfg, live, backing, classes and timings,
// and for every value the file and line that it came from. It reads rc.conf, jail.conf, fstab and
// cfgd.toml. No other package finds out from these files what a machine is; those that edit a file of the host
// read its text again, under the lock, and parse it by this package. Edits are composed here, as values
// (fstab_switch.go, Edit), and written by others.
//
// What always holds: nothing is executed, and this package writes nothing. Shell is parsed, never run. A value that
// cannot be known statically is reported with file and line, and never guessed. Paths in the model are as
// in the configuration, without the directory of --root; Model.Path adds that directory.
package config
