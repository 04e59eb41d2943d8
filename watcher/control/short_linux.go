package control

import (
	"fmt"
	"os"
)

// ShortDir is another, short path of a directory, for sun_path holds 108 bytes only (unix(7)). It is good
// until release.
func ShortDir(dir string) (string, func(), error) {
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d", f.Fd()), func() { f.Close() }, nil
}
