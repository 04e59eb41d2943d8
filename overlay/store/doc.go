// Package store is one cfg: the plain tree of saved files, and the directory .cfgd beside it.
//
// The plain tree is the truth. Stock tools copy it. What somebody changes in it by hand is adopted when the
// store is opened (reconcile.go). The manifest records the default that each override was made against, the
// removals, and the open conflicts; cfgd-store(5) describes the files. A Plan (plan.go) is a value that says
// what a save changes. A commit (commit.go) makes it the current generation. It writes the journal before the
// first change of the plain tree, so a crash leaves either the old generation or the new one. History is kept
// within bounds (history.go).
//
// The store never writes what it would refuse to read, because a store that can't be read has lost its
// history. So each text is parsed before it is put in place. The limits:
//
//	manifest, generations/N   MaxManifest, and what ParseManifest checks: paths, order, times, kinds
//	journal                   MaxManifest, and what parseJournal checks
//	removed                   MaxManifest
//	trial                     maxNote
//	objects/HEX.gz            Store.Most; a larger file is not kept for a merge
//
// dirfd bounds the attributes of a file, tree.MaxXattrs those of a tree, tree.Scan the length of paths.
//
// This package writes nothing outside cfg. It does not trust names and links in cfg: every access goes
// through open directories.
package store
