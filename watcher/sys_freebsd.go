package watcher

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"

	"cfgd/overlay/tree"
)

// events is the name in status of the system's events: kqueue(2).
const events = "kqueue"

var errTooMany = errors.New("kqueue takes a descriptor for each file, and the daemon may open too few for " +
	"all targets " +
	"(sysctl kern.maxfilesperproc)")

// capacity returns how many descriptors kqueue(2) watches may take: half of what the process may open.
func capacity() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	return int(min(r.Cur, 1<<30)) / 2
}

// watchCost returns how much of the capacity a watched tree takes: kqueue holds one descriptor for each
// file.
func watchCost(t *tree.Tree) int { return len(t.Entries) + 64 }

// peerUID returns the user at the other end of a unix socket, from LOCAL_PEERCRED (unix(4)).
func peerUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Xucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptXucred(int(fd), unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if cerr != nil {
		return 0, cerr
	}
	return cred.Uid, nil
}
