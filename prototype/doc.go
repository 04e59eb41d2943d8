// Package prototype is what happens to the tree that jails are snapshots of: its snapshots are taken,
// listed and destroyed, files move into its etc, and it is sent to another machine.
//
// Snapshots are ZFS's, or plain copies where the prototype's root is no dataset (standing.go decides). A
// prototype's jail may run and be hostile: no link below its root is followed, and nothing outside of it
// is read or written. A relocation has a record that says what it was doing, so that it is finished or
// undone after a crash; the original goes last, when the copy is on stable storage. A receiver is never
// rolled back, and nothing there is destroyed.
//
// The package runs zfs(8) and ssh(1) through package run.
package prototype
