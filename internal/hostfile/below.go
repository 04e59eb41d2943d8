package hostfile

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links a name may pass through, as MAXSYMLINKS in FreeBSD's sys/param.h.
const maxLinks = 32

// Resolve returns the path of what name leads to below a directory: absolute links and ".." stay below
// it, as after chroot(2), and the result has no link in it. Parts that do not exist stand in it as they
// are. A name with too many links in it is an error.
func Resolve(dir, name string) (string, error) {
	todo := split(name)
	at, links := "/", 0
	for len(todo) > 0 {
		if todo[0] == ".." && !isDir(filepath.Join(dir, at)) {
			// the system says what is wrong with it
			return filepath.Join(dir, at) + "/" + strings.Join(todo, "/"), nil
		}
		next := filepath.Join(at, todo[0]) // ".." of the top is the top
		todo = todo[1:]
		to, err := os.Readlink(filepath.Join(dir, next))
		if err != nil { // no link, or nothing there
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: syscall.ELOOP}
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		todo = append(split(to), todo...)
	}
	return filepath.Join(dir, at), nil
}

func isDir(full string) bool {
	st, err := os.Lstat(full)
	return err == nil && st.IsDir()
}

// split returns the components of a path without the empty ones and ".".
func split(name string) []string {
	var parts []string
	for s := range strings.SplitSeq(name, "/") {
		if s != "" && s != "." {
			parts = append(parts, s)
		}
	}
	return parts
}

// Below is Resolve for the directory of --root; without one ("") it is the name itself, which the system
// resolves. A name with too many links in it becomes one that no call takes, so every use of it fails. The
// NUL that makes it so stands before the first link: the system would follow that one out of the directory.
func Below(root, name string) string {
	if root == "" {
		return name
	}
	full, err := Resolve(root, name)
	if err != nil {
		return filepath.Join(root, "\x00", name)
	}
	return full
}
