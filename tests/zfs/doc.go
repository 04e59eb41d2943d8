// Package zfs tests cfgd on real ZFS pools, in a throw-away Linux machine that tests/zfs/run makes. What
// nullfs(5), jail(8) and service(8) do on FreeBSD a bind mount and two scripts do there; zfs(8), the
// snapshots, their automounts, clones, holds and streams are real.
package zfs
