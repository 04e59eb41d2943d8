package nano

import (
	"io"
	"time"
)

// Install describes what is to be installed.
type Install struct {
	From     io.Reader
	SHA256   string // in hexadecimal, of the input; "" if it is not checked
	Slice    int    // its number in fstab's names; 0 is the one that does not run
	Activate bool
	Carry    bool          // copy the machine's files of the running system into the new one
	Trials   *Trials       // nil if there are no trials
	Within   time.Duration // with Activate: the trial of the new one; 0 for none
	Progress func(n int64) // may be nil
	// Begin is called before the first byte is written. total is 0 if it is not known.
	Begin func(total int64, name string)
}

// Installed is what was installed.
type Installed struct {
	Slice   Slice
	Kept    bool // the running system was on trial, and is confirmed: two trials at once are not possible
	Form    string
	Full    bool
	Bytes   int64
	Digest  string // SHA-256 of the input
	Once    bool   // it boots once, and has to be confirmed
	Fstabs  []string
	Label   string   // the new label of its filesystem
	Carried []string // files of the running system that were copied into it
	Lacks   string   // what it lacks to be booted, in words; "" if it has all
}

// installation is an Install at work.
type installation struct {
	Install
	disk  *Disk
	table *Table
	done  *Installed // its Slice is the destination
}
