// Package jails is a jail's life: it is created or cloned on a prototype, switched to another snapshot
// and back, and destroyed.
//
// A plan of each is a value, printed by --plan. What is made for a jail stands in
// /var/db/cfgd/jails/NAME.json before the first step, and destroy undoes just that. A switch writes a
// journal first; one that was killed is finished or undone by the next. Whoever works on a jail holds its
// lock (exclusive.go), so that a journal without a lock is of a process that is dead. Files of the host
// are edited through package hostfile, one edit at a time.
//
// The package runs zfs(8), service(8) and jls(8) through package run, and calls a jail's hooks itself
// where no jail runs (--root). The configuration comes from package config.
package jails
