// Package zfs tests cfgd on real ZFS pools, in a temporary Linux machine that tests/zfs/run makes. A bind
// mount and two scripts replace nullfs(5), jail(8) and service(8) of FreeBSD. zfs(8), the snapshots, their
// automounts, clones, holds and streams are real.
package zfs
