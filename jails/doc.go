// Package jails creates, clones, switches, backs up and destroys jails.
//
// Each operation has a plan that is a value, printed by --plan. A Spec says what is asked for (spec.go,
// plan.go, clone.go); a Creation is what is made for it (creation.go). It is recorded in
// /var/db/cfgd/jails/NAME.json before the first step (create.go), and undone exactly (destroy.go). A
// switch writes a journal first (journal.go); the next switch finishes or undoes one that was killed.
// Several jails are planned before the first is switched (rollout.go). Each of these operations holds the
// locks of lock.go, so a journal without a lock belongs to a dead process. A backup (backup.go) takes a
// snapshot of what a jail has, and no lock. Files of the host are edited through package hostfile, one edit
// at a time.
//
// The package runs zfs(8), service(8), jls(8), and the administrator's check of a jail's health (sh -c)
// through package run. With --root, where no jail runs, it calls a jail's hooks itself. The configuration
// comes from package config.
package jails
