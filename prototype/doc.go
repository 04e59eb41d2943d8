// Package prototype works on the tree whose snapshots are the roots and defaults of jails: it takes, lists
// and destroys snapshots, moves files into the tree's etc, and sends the tree to another machine.
//
// Snapshots are ZFS's (zfs.go), or plain copies if the prototype's root is no dataset (copies.go); open.go
// decides. A prototype has a lock (lock.go): whoever takes or destroys a snapshot or moves files has it
// alone, and whoever puts a jail on a snapshot shares it. Listing takes no lock and changes nothing. A
// snapshot is pruned only if no fstab, mount, jail, clone or hold needs it (prune.go).
//
// A prototype's jail may run and be hostile: no link below its root is followed, and nothing outside of it
// is read or written. A relocation has a record of its steps, so that it can be finished or undone after a
// crash. The original is removed last, when the copy is on stable storage. A receiver is never rolled back,
// and nothing on it is destroyed.
//
// The package runs zfs(8) and ssh(1) through package run.
package prototype
