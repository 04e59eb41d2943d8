package config

// Class says what cfgd does with a path that changed; see design words in classes_table.go.
type Class string

// The classes of paths.
const (
	Persist  Class = "persist"  // saved; the default
	Secret   Class = "secret"   // saved, its contents never shown
	Derived  Class = "derived"  // saved, hidden in diffs, rebuilt from its source
	Volatile Class = "volatile" // neither saved nor reported
	Ignore   Class = "ignore"   // editors' temporaries and locks: as if they were not there
	Report   Class = "report"   // not saved, but listed
)
