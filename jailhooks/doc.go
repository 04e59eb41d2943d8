// Package jailhooks is what runs at a jail's start and stop: the memory filesystem of its /etc is made, populated and
// handed to the daemon, and saved, unmounted and destroyed again.
//
// It owns the order of these steps. What always holds: both hooks may be repeated; init touches nothing in a live tree that
// is populated already, and clears what an earlier start left that failed, for jail(8) then runs no hook; cleanup unmounts only
// what is on stable storage, in cfg or in a rescue archive, but for what its class or size keeps out, which it names; what cfgd
// did not make or populate is never unmounted; a link that a jail planted in the way of its /etc is never followed; nobody is waited
// for without a limit, and a daemon that does not answer keeps no jail from stopping.
//
// It may be killed at any step: the record is written before what it speaks of and dropped after, so that the next hook finds and
// clears what was left.
//
// It runs commands through package run alone, and reads no configuration file.
package jailhooks
