package control

import "fmt"

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
