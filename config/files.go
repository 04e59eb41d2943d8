package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
)

// maxConfigFile is the size in bytes above which a configuration file is refused: the largest
// real rc.conf or fstab is a thousandth of it, and a mistaken /etc/rc.conf -> /dev/ada0.img must not fill the memory.
const maxConfigFile = 8 << 20

// maxLinks is how many symbolic links a name may pass through, as MAXSYMLINKS of FreeBSD's sys/param.h.
const maxLinks = 32

// fileReader reads configuration files. Names and patterns are absolute and as the configuration says them,
// without the directory of --root; what Glob returns is in the same form, sorted.
type fileReader interface {
	ReadFile(name string) ([]byte, error)
	Glob(pattern string) ([]string, error)
}

// rootFiles reads the files below one directory as if it were "/": absolute symbolic links and ".." stay below it,
// as they would after chroot(2). An error that wraps fs.ErrNotExist says that the file is not there.
type rootFiles struct {
	root *os.Root
}

// openFiles opens the directory of --root, or "/" where dir is empty. The caller closes it.
func openFiles(dir string) (*rootFiles, error) {
	if dir == "" {
		dir = "/"
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open root directory: %w", err)
	}
	return &rootFiles{root: root}, nil
}

// Close lets go of the root directory.
func (f *rootFiles) Close() error { return f.root.Close() }

// ReadFile returns the contents of a regular file of at most 8 MiB; anything else is refused with the reason.
func (f *rootFiles) ReadFile(name string) ([]byte, error) {
	file, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readRegular(file, name)
}

// open resolves name and opens it, having looked first: opening a device or a fifo can have effects of its own.
func (f *rootFiles) open(name string) (*os.File, error) {
	rel, info, err := f.resolve(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(name, info.Mode())
	}
	// The look and the open are two steps: O_NONBLOCK keeps a fifo that came in between from stopping us.
	file, err := f.root.OpenFile(rel, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, named(name, err)
	}
	return file, nil
}

// readRegular reads an open file after checking that it is regular and not too large.
func readRegular(file *os.File, name string) ([]byte, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, named(name, err)
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(name, info.Mode())
	}
	data, err := io.ReadAll(io.LimitReader(file, maxConfigFile+1))
	if err != nil {
		return nil, named(name, err)
	}
	if len(data) > maxConfigFile {
		return nil, fmt.Errorf("%s: larger than %d MiB, which no configuration file is", name, maxConfigFile>>20)
	}
	return data, nil
}

// readPlain reads a file of the command line, which is named as the shell sees it and not below --root.
func readPlain(name string) ([]byte, error) {
	file, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, named(name, err)
	}
	defer file.Close()
	return readRegular(file, name)
}

// Stat describes what name leads to, through symbolic links.
func (f *rootFiles) Stat(name string) (fs.FileInfo, error) {
	_, info, err := f.resolve(name)
	return info, err
}

// isDir reports whether name leads to a directory.
func (f *rootFiles) isDir(name string) bool {
	info, err := f.Stat(name)
	return err == nil && info.IsDir()
}

// exists reports whether name leads to anything: whether it can be read is for ReadFile to say.
func (f *rootFiles) exists(name string) bool {
	_, err := f.Stat(name)
	return err == nil
}

// ReadDir returns the names in a directory, sorted.
func (f *rootFiles) ReadDir(name string) ([]string, error) {
	rel, _, err := f.resolve(name)
	if err != nil {
		return nil, err
	}
	dir, err := f.root.Open(rel)
	if err != nil {
		return nil, named(name, err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, named(name, err)
	}
	slices.Sort(names)
	return names, nil
}

// resolve follows the links of an absolute name and returns the path below the root, free of links, and what is there.
// os.Root alone would refuse absolute links, which are common in /etc.
func (f *rootFiles) resolve(name string) (string, fs.FileInfo, error) {
	if !path.IsAbs(name) {
		return "", nil, fmt.Errorf("%s: not an absolute path", name)
	}
	todo := splitPath(name)
	at, links := ".", 0
	info, err := f.root.Lstat(at)
	for err == nil && len(todo) > 0 {
		step := todo[0]
		todo = todo[1:]
		next := path.Clean("/" + path.Join(at, step))[1:] // ".." at the top stays at the top
		if next == "" {
			next = "."
		}
		if info, err = f.root.Lstat(next); err != nil {
			break
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", nil, fmt.Errorf("%s: %w", name, syscall.ELOOP)
		}
		var to string
		if to, err = f.root.Readlink(next); err != nil {
			break
		}
		if path.IsAbs(to) {
			at = "."
		}
		todo = append(splitPath(to), todo...)
		info, err = f.root.Lstat(at)
	}
	if err != nil {
		return "", nil, named(name, err)
	}
	return at, info, nil
}

// splitPath returns the components of a path, without the empty ones and ".".
func splitPath(name string) []string {
	return slices.DeleteFunc(strings.Split(name, "/"), func(s string) bool { return s == "" || s == "." })
}

// Glob returns the existing names that match an absolute shell pattern, sorted; as with glob(3), a leading dot
// is matched by a dot alone, and no match is no error.
func (f *rootFiles) Glob(pattern string) ([]string, error) {
	if !path.IsAbs(pattern) {
		return nil, fmt.Errorf("%s: not an absolute path", pattern)
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("%s: %w", pattern, err)
	}
	found := []string{"/"}
	for _, step := range splitPath(pattern) {
		var next []string
		for _, dir := range found {
			names, err := f.globStep(dir, step)
			if err != nil {
				return nil, err
			}
			next = append(next, names...)
		}
		found = next
	}
	slices.Sort(found)
	return found, nil
}

// globStep returns the names in dir that match one component of a pattern.
func (f *rootFiles) globStep(dir, step string) ([]string, error) {
	if !strings.ContainsAny(step, `*?[\`) {
		name := joinKeepingDots(dir, step)
		if !f.exists(name) {
			return nil, nil
		}
		return []string{name}, nil
	}
	if !f.isDir(dir) {
		return nil, nil
	}
	names, err := f.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, name := range names {
		if name[0] == '.' && step[0] != '.' {
			continue
		}
		if ok, _ := path.Match(step, name); ok {
			found = append(found, joinKeepingDots(dir, name))
		}
	}
	return found, nil
}

// joinKeepingDots appends a component without cleaning: "link/.." is not the same place as ".".
func joinKeepingDots(dir, name string) string {
	return strings.TrimSuffix(dir, "/") + "/" + name
}

// named puts the name that the configuration uses in place of the one below the root.
func named(name string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// notRegular says what stands where a file was expected.
func notRegular(name string, mode fs.FileMode) error {
	what := "a special file"
	switch {
	case mode.IsDir():
		what = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		what = "a fifo"
	case mode&fs.ModeSocket != 0:
		what = "a socket"
	case mode&fs.ModeDevice != 0:
		what = "a device"
	}
	return fmt.Errorf("%s: is %s, not a regular file", name, what)
}
