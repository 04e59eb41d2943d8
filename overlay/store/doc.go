// Package store is one cfg: the plain tree of saved files, and what .cfgd beside it knows of them.
//
// The plain tree is the truth: stock tools copy it, and what somebody changes in it by hand is adopted when the store is
// opened (reconcile.go). The manifest says which default each override was made against, what was removed, and which
// conflicts are open; cfgd-store(5) describes the files. A Plan (plan.go) is a value that says what a save changes. A
// commit (commit.go) makes it the current generation: the journal is written before the first change of the plain tree,
// so that a crash leaves the old generation or the new one. History is kept within bounds (objects.go, room.go).
//
// Nothing outside of cfg is written. Names and links in cfg are not trusted: everything goes by open directories.
package store
