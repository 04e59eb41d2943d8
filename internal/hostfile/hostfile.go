// Package hostfile writes files of the host's own: fstabs, rc.conf, records and journals below /var/db/cfgd.
//
// What always holds: whoever reads one finds the old file or the new one, whole, and what a call returned for is on stable storage. These are
// the administrator's own places, so that links in the way to a file are followed; nothing below a jail's root is ever written by it.
package hostfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Replace replaces a file that is there, keeping its mode and owner: a temporary beside it, fsync, rename, fsync of the directory. A link is
// followed to the file.
func Replace(name string, data []byte) error {
	full, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	st, err := os.Stat(full)
	if err != nil {
		return err
	}
	return put(full, data, st.Mode().Perm(), st)
}

// Write is Replace for a file that may not be there, and then gets a mode and its directories.
func Write(name string, data []byte, mode fs.FileMode) error {
	err := Replace(name, data)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := fs.FileMode(0o755)
	if mode.Perm()&0o077 == 0 {
		dir = 0o700
	}
	if err := MkdirAll(filepath.Dir(name), dir); err != nil {
		return err
	}
	return put(name, data, mode, nil)
}

// MkdirAll is os.MkdirAll, durably: the directory that gets a new one is fsynced. What is written into a
// directory whose own name is lost in a power cut is lost with it.
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

// Remove removes a file, durably. One that is not there is no error.
func Remove(name string) error {
	err := os.Remove(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return SyncDir(filepath.Dir(name))
}

func put(full string, data []byte, mode fs.FileMode, like fs.FileInfo) error {
	tmp := filepath.Join(filepath.Dir(full), ".cfgd."+filepath.Base(full)) // of class ignore, should it be left
	if err := writeSynced(tmp, data, mode, like); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	if err := os.Rename(tmp, full); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	return SyncDir(filepath.Dir(full))
}

func writeSynced(name string, data []byte, mode fs.FileMode, like fs.FileInfo) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if like != nil {
		if err := sameOwner(f, like); err != nil {
			return err
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
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
