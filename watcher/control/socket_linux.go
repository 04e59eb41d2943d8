package control

import (
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// ShortDir returns a short path of a directory, because sun_path holds only 108 bytes (unix(7)). The path
// is valid until release is called.
func ShortDir(dir string) (string, func(), error) {
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), func() { f.Close() }, nil
}

// PeerUID returns the user at the other end of a unix socket, from SO_PEERCRED (unix(7)).
func PeerUID(c *net.UnixConn) (uint32, error) {
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
