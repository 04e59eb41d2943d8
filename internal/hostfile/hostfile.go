// Package hostfile reads and writes the host's own files: rc.conf, jail.conf, fstabs and cfgd.toml, and
// cfgd's records and journals below /var/db/cfgd.
//
// What always holds: a reader finds the old file or the new one, whole, and when a call returns, what it
// wrote is on stable storage (but for WriteVolatile, below /var/run). The file keeps its mode, owner and
// flags. Two processes that edit one file do so one after the other (Edit, Lock). These are the
// administrator's own places: links in the way to a file are followed, and below the directory of --root
// they are resolved as after chroot(2) (Below). It reads and writes nothing below the root of a jail that
// has run; package dirfd is for that. Paths are absolute. Packages setup and jails use it to write rc.conf,
// jail.conf and fstabs.
package hostfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"cfgd/internal/dirfd"
)

// MaxSize is the size in bytes above which a file is refused. The largest real rc.conf or fstab is a
// thousandth of it, and a mistaken link from /etc/rc.conf to a disk image must not fill the memory.
const MaxSize = 8 << 20

// UnfitError reports why this package does not read a file.
type UnfitError struct{ Path, Why string }

func (e *UnfitError) Error() string { return e.Path + ": " + e.Why }

// ReadFile returns the contents of a regular file of at most MaxSize. Anything else is refused, and the
// error names what it is: a fifo would stop the reader, and opening a device can have effects of its own.
func ReadFile(full string) ([]byte, error) {
	st, err := os.Stat(full)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, notRegular(full, st.Mode())
	}
	// Something else may have taken the name since: O_NONBLOCK keeps a fifo from stopping the open.
	f, err := os.OpenFile(full, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err = f.Stat(); err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, notRegular(full, st.Mode())
	}
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err == nil && len(data) > MaxSize {
		err = &UnfitError{
			full, fmt.Sprintf("larger than %d MiB, which no configuration file is", MaxSize>>20),
		}
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// notRegular names what is in the place of a regular file.
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
	return &UnfitError{name, "is " + what + ", not a regular file"}
}

// Names returns the names in a directory that end with suffix, sorted. It leaves out names with a leading
// dot, such as the temporary file of a write that was killed. A directory that does not exist has no
// names.
func Names(dir, suffix string) ([]string, error) {
	list, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range list {
		if name := e.Name(); !strings.HasPrefix(name, ".") && strings.HasSuffix(name, suffix) {
			names = append(names, name)
		}
	}
	return names, nil
}

// Replace replaces the contents of an existing file and keeps its mode, owner and flags. It follows a
// link to the file. A file whose flags forbid the change is an error that names them (chflags(1)).
func Replace(full string, data []byte) error { return writer{}.replace(full, data) }

// Write is Replace for a file that may not exist yet. A new file gets the mode, and its directory is made.
func Write(full string, data []byte, mode fs.FileMode) error { return writer{}.write(full, data, mode) }

// WriteVolatile is Write for a file below /var/run, which a restart of the machine clears: every reader
// finds the old file or the new one, but nothing waits for stable storage.
func WriteVolatile(full string, data []byte, mode fs.FileMode) error {
	return writer{volatile: true}.write(full, data, mode)
}

// writer is how a file is written.
type writer struct {
	volatile bool       // without fsync
	hook     dirfd.Hook // asked before every change, in tests
}

func (w writer) write(full string, data []byte, mode fs.FileMode) error {
	full, err := Resolve("/", full) // a link may name a file that is still to come
	if err != nil {
		return err
	}
	if err := w.over(full, data); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := fs.FileMode(0o755)
	if mode.Perm()&0o077 == 0 {
		dir = 0o700
	}
	if err := MkdirAll(filepath.Dir(full), dir); err != nil {
		return err
	}
	return w.put(full, data, uint32(mode.Perm()), nil)
}

func (w writer) replace(full string, data []byte) error {
	full, err := Resolve("/", full)
	if err != nil {
		return err
	}
	return w.over(full, data)
}

// over replaces a file whose path has no link in it.
func (w writer) over(full string, data []byte) error {
	st, err := stat(full)
	if err != nil {
		return err
	}
	if st.Kind != dirfd.KindFile {
		return fmt.Errorf("%s: is a %s, not a regular file", full, st.Kind)
	}
	if names := dirfd.FlagNames(st.Flags & dirfd.BindingFlags); names != "" {
		first, _, _ := strings.Cut(names, ",")
		return fmt.Errorf("%s: has the flags %s, which forbid a change: chflags no%s %[1]s first, and set "+
			"it again after", full, names, first)
	}
	return w.put(full, data, st.Mode, &st)
}

// stat is lstat(2), with the flags of FreeBSD.
func stat(full string) (dirfd.Stat, error) {
	d, err := dirfd.Open(filepath.Dir(full), nil)
	if err != nil {
		return dirfd.Stat{}, err
	}
	defer d.Close()
	return d.Stat(filepath.Base(full))
}

// put writes a file under a temporary name, and gives it its own name when it is complete. The order, and
// what a crash leaves:
//
//	1  the temporary file is made, with a name that no other process uses
//	2  it gets contents, owner, mode and flags
//	3  fsync(2) of it                         the old file, and a temporary one
//	4  it is renamed to the file's name       the old file or the new one
//	5  fsync(2) of the directory              the new file
//
// An error before step 4 removes the temporary file. One that a killed process left has a leading dot, is
// of class ignore, and is removed by the next Edit of the file.
func (w writer) put(full string, data []byte, mode uint32, like *dirfd.Stat) error {
	d, err := dirfd.Open(filepath.Dir(full), w.hook)
	if err != nil {
		return err
	}
	defer d.Close()
	name := filepath.Base(full)
	tmp := fmt.Sprintf("%s%d.%x", temporary(name), os.Getpid(), rand.Uint32())
	if err := w.fill(d, tmp, data, mode, like); err != nil { // 1 to 3
		return errors.Join(err, discard(d, tmp))
	}
	if err := d.Rename(tmp, d, name); err != nil { // 4
		return errors.Join(err, discard(d, tmp))
	}
	if w.volatile {
		return nil
	}
	return d.Sync() // 5
}

// temporary is how the names of a file's temporary files begin. Those names are of class ignore, and no
// longer than the longest name that a filesystem takes.
func temporary(name string) string { return ".cfgd." + name[:min(len(name), 200)] + "." }

func (w writer) fill(d *dirfd.Dir, tmp string, data []byte, mode uint32, like *dirfd.Stat) error {
	f, err := d.Create(tmp)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if like != nil && os.Geteuid() == 0 {
		if err := f.Chown(like.UID, like.GID); err != nil {
			return err
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if like != nil && like.Flags != 0 {
		if err := d.SetFlags(tmp, like.Flags); err != nil {
			return err
		}
	}
	if w.volatile {
		return nil
	}
	return f.Sync()
}

func discard(d *dirfd.Dir, tmp string) error {
	if err := d.Unlink(tmp); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// sweep removes the temporary files that killed processes left of a file. The caller has the lock.
func sweep(full string) error {
	d, err := dirfd.Open(filepath.Dir(full), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Names()
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, temporary(filepath.Base(full))); ok && ours(rest) {
			err = errors.Join(err, discard(d, name))
		}
	}
	return err
}

// ours reports whether the end of a name is one that put makes: PID.NUMBER.
func ours(end string) bool {
	pid, number, ok := strings.Cut(end, ".")
	is := func(s, of string) bool { return s != "" && strings.Trim(s, of) == "" }
	return ok && is(pid, "0123456789") && is(number, "0123456789abcdef")
}

// MkdirAll is os.MkdirAll, durably: the directory that gets a new one is fsynced. A file in a directory
// whose own name is lost in a power cut is lost with it.
func MkdirAll(dir string, mode fs.FileMode) error {
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := MkdirAll(parent, mode); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if st, err := os.Stat(dir); err != nil || !st.IsDir() {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	}
	return SyncDir(parent)
}

// Remove removes a file, durably. A file that does not exist is no error.
func Remove(full string) error {
	err := os.Remove(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return SyncDir(filepath.Dir(full))
}

// SyncDir brings a directory's names to stable storage.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
