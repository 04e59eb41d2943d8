// Package jailhooks is what runs at a jail's start and stop. Init makes the memory filesystem of its
// /etc, populates it and tells the daemon; Cleanup saves what is unsaved, unmounts the filesystem and
// destroys it.
//
// Both may be repeated, and may be killed at any step: the record is written before what it speaks of,
// and dropped after. Init leaves a live tree alone that is populated already, and clears what a start
// left that failed. Cleanup unmounts only what is on stable storage, in cfg or in a rescue archive, and
// names what its class or size keeps out. What cfgd did not make or populate is never unmounted, and a
// link that a jail planted in the way of its /etc is never followed. Nothing is waited for without a
// limit: a daemon that does not answer keeps no jail from stopping.
//
// The package runs commands through package run, and reads no configuration file but the jail's fstab.
package jailhooks
