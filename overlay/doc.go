// Package overlay does what can be done with a target: look, save, populate, restore, merge, resolve, pin,
// roll back, rescue.
//
// A target has three trees: base, the read-only defaults; cfg, the store of what differs from them; live,
// the writable tree in memory. Package tree scans, compares and copies them, package store keeps cfg,
// package merge merges. An Overlay opens the three trees of one target and does what a command or the daemon
// asks for: save.go saves, populate.go populates, and so on; resolve.go has pins too, and edit.go the
// rollback. What a verb needs to know of the live tree is in live.go, of base in bases.go, and what was
// found is a View (view.go), kept in a diffCache (diffcache.go). These always hold:
//
//   - Populate, then scan: no unsaved change. Save, clear, populate: the same tree. Files are saved with
//     their times, to the nanosecond; a time alone is no change.
//   - The store holds nothing that equals base, unless it is pinned.
//   - A save is all or nothing.
//   - All access below a live tree or a store goes through open directories of package dirfd. Nothing planted
//     there leads out of it.
//   - A live tree that this program did not populate, or that lost most of what it should hold, is never
//     taken for "everything deleted".
//
// The package runs no command, mounts nothing and reads no configuration file.
package overlay
