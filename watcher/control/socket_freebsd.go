package control

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// ShortDir returns the directory itself, if the socket's path fits into sun_path, which holds 104 bytes
// (unix(4)).
func ShortDir(dir string) (string, func(), error) {
	if len(dir)+len("/"+SocketPath) >= 104 {
		return "", nil, fmt.Errorf(
			"control socket: %s/%s is longer than unix(4) allows; use a shorter --root", dir, SocketPath,
		)
	}
	return dir, func() {}, nil
}

// PeerUID returns the user at the other end of a unix socket, from LOCAL_PEERCRED (unix(4)).
func PeerUID(c *net.UnixConn) (uint32, error) {
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
