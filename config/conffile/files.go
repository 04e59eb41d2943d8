package conffile

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"cfgd/internal/hostfile"
)

// Reader reads configuration files. Names and patterns are absolute and as in the configuration,
// without the directory of --root. Glob returns names in the same form, sorted.
type Reader interface {
	ReadFile(name string) ([]byte, error)
	Glob(pattern string) ([]string, error)
}

// Files reads the files below one directory as if it were "/": absolute symbolic links and ".." stay
// below it, as after chroot(2). An error that wraps fs.ErrNotExist means that the file does not exist.
type Files struct {
	dir string
}

// Open returns a reader of the files below the directory of --root, or "/" if dir is empty.
func Open(dir string) (*Files, error) {
	f := &Files{dir: path.Clean(cmp.Or(dir, "/"))}
	st, err := os.Stat(f.dir)
	if err == nil && !st.IsDir() {
		err = &fs.PathError{Op: "open", Path: f.dir, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return nil, fmt.Errorf("open root directory: %w", err)
	}
	return f, nil
}

// ReadFile returns the contents of a regular file of at most 8 MiB. For anything else it returns an error
// with the reason.
func (f *Files) ReadFile(name string) ([]byte, error) {
	full, err := f.resolve(name)
	if err != nil {
		return nil, err
	}
	b, err := hostfile.ReadFile(full)
	return b, named(name, err)
}

// ReadPlain reads a file named on the command line, which is not below --root.
func ReadPlain(name string) ([]byte, error) {
	b, err := hostfile.ReadFile(name)
	return b, named(name, err)
}

// Stat returns the file information of name, through symbolic links.
func (f *Files) Stat(name string) (fs.FileInfo, error) {
	full, err := f.resolve(name)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(full)
	return info, named(name, err)
}

// IsDir reports whether name leads to a directory.
func (f *Files) IsDir(name string) bool {
	info, err := f.Stat(name)
	return err == nil && info.IsDir()
}

// Exists reports whether name exists. ReadFile reports whether it can be read.
func (f *Files) Exists(name string) bool {
	_, err := f.Stat(name)
	return err == nil
}

// IsLink reports whether name is a symbolic link itself, wherever it leads.
func (f *Files) IsLink(name string) bool {
	dir, err := f.resolve(path.Dir(path.Clean(name)))
	if err != nil {
		return false
	}
	info, err := os.Lstat(path.Join(dir, path.Base(name)))
	return err == nil && info.Mode()&fs.ModeSymlink != 0
}

// ReadDir returns the names in a directory, sorted.
func (f *Files) ReadDir(name string) ([]string, error) {
	full, err := f.resolve(name)
	if err != nil {
		return nil, err
	}
	list, err := os.ReadDir(full)
	if err != nil {
		return nil, named(name, err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names, nil
}

// resolve returns the path to which an absolute name leads.
func (f *Files) resolve(name string) (string, error) {
	if !path.IsAbs(name) {
		return "", fmt.Errorf("%s: not an absolute path", name)
	}
	full, err := hostfile.Resolve(f.dir, name)
	return full, named(name, err)
}

// Real resolves the links of a path as far as it exists, so that two names of one place are equal.
func (f *Files) Real(name string) string {
	full, err := hostfile.Resolve(f.dir, path.Clean(name))
	if err != nil {
		return name
	}
	return path.Join("/", strings.TrimPrefix(full, f.dir))
}

// Glob returns the existing names that match an absolute shell pattern, sorted; as with glob(3), a
// leading dot is matched by a dot alone, and no match is no error.
func (f *Files) Glob(pattern string) ([]string, error) {
	if !path.IsAbs(pattern) {
		return nil, fmt.Errorf("%s: not an absolute path", pattern)
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("%s: %w", pattern, err)
	}
	found := []string{"/"}
	for _, step := range Components(pattern) {
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
func (f *Files) globStep(dir, step string) ([]string, error) {
	if !strings.ContainsAny(step, `*?[\`) {
		name := JoinKeepingDots(dir, step)
		if !f.Exists(name) {
			return nil, nil
		}
		return []string{name}, nil
	}
	if !f.IsDir(dir) {
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
			found = append(found, JoinKeepingDots(dir, name))
		}
	}
	return found, nil
}

// JoinKeepingDots appends a component without cleaning: "link/.." is not the same place as ".".
func JoinKeepingDots(dir, name string) string {
	return strings.TrimSuffix(dir, "/") + "/" + name
}

// Components returns the components of a path, without the empty ones.
func Components(name string) []string {
	return strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
}

// named replaces the name below the root by the name in the configuration.
func named(name string, err error) error {
	if err == nil {
		return nil
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", name, pe.Err)
	}
	var unfit *hostfile.UnfitError
	if errors.As(err, &unfit) {
		return &hostfile.UnfitError{Path: name, Why: unfit.Why}
	}
	return fmt.Errorf("%s: %w", name, err)
}
