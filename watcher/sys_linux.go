package watcher

import (
	"errors"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"cfgd/overlay/tree"
)

// events is the name in status of the system's events: inotify(7), which package fsnotify reads.
const events = "fsnotify"

var errTooMany = errors.New("the system allows too few inotify watches for all targets " +
	"(sysctl fs.inotify.max_user_watches)")

// capacity returns how many inotify(7) watches cfgd allows itself: three quarters of what a user may
// have. Other programs of root share them.
func capacity() int {
	b, err := os.ReadFile("/proc/sys/fs/inotify/max_user_watches")
	if err != nil {
		return 8192
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 8192
	}
	return n / 4 * 3
}

// watchCost returns how much of the capacity a watched tree takes: one watch for each directory, and some
// for directories to come.
func watchCost(t *tree.Tree) int { return len(t.Dirs()) + 16 }

// peerUID returns the user at the other end of a unix socket, from SO_PEERCRED (unix(7)).
func peerUID(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var cerr error
	if err := raw.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if cerr != nil {
		return 0, cerr
	}
	return cred.Uid, nil
}
