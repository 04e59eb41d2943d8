// Package overlay keeps the three trees of a target apart and together: base,
// the read-only defaults; cfg, the persistent store of differences; live, the
// writable tree in memory.
//
// It owns scanning, comparing, the store with its generations, and the doing of
// save, populate and restore. What always holds:
//
//   - Populate, then scan: no unsaved change. Save, clear, populate: the same tree.
//     Times of files travel with what is saved, to the nanosecond; a time alone is no change.
//   - The store holds nothing that equals base, unless it is pinned.
//   - A save is all or nothing: commit.go states the order of its writes.
//   - Below a live tree or a store all access is by directory descriptor, through
//     package dirfd; nothing planted there leads out of it.
//   - A live tree that this program did not populate, or that lost most of what it
//     should hold, is never taken for "everything deleted".
//   - The plain tree in cfg is the truth: what somebody changed there by hand is
//     adopted as a generation of its own.
//
// Scans, changes and plans are values, computed without side effects; doing them is a short loop.
// The package runs no command, mounts nothing and reads no configuration file.
package overlay
