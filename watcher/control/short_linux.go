package control

import (
	"fmt"
	"os"
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
