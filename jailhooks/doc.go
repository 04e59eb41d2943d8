// Package jailhooks runs at a jail's start and stop. Init makes the memory filesystem of its /etc, populates
// it and notifies the daemon (init.go, start.go). Cleanup saves what is unsaved, unmounts the filesystem and
// destroys it (cleanup.go, lastsave.go). Both clear what earlier starts left (earlier.go), and ask what is
// at the live path (place.go).
//
// Both may be repeated, and may be killed at any step: a record is written before the step that it describes
// and removed after it. Init does not touch a live tree that is populated already, and clears what a failed
// start left. Cleanup unmounts only what is on stable storage, in cfg or in a rescue archive, and warns of
// files that are not saved because of their class or size. A filesystem that cfgd did not make or populate
// is never unmounted, and a link that a jail put in the path of its /etc is never followed. Every wait has a
// limit: a daemon that does not answer keeps no jail from stopping.
//
// The package runs commands through package run. The only configuration file that it reads is the jail's
// fstab.
package jailhooks
