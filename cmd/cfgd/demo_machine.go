package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// demoFiles has the files of the demo's machine. Below machine/ are the host's own files, the defaults of an
// image, and the defaults of the prototype's two snapshots.
//
//go:embed all:machine
var demoFiles embed.FS

// private are the files that only root may read.
var private = map[string]bool{"master.passwd": true}

// buildMachine makes a small machine in an empty directory: the host's /etc over /conf/base/etc, a prototype
// with two snapshots as plain directories, and two jails on the first snapshot.
func buildMachine(root string) error {
	if err := emptyDir(root); err != nil {
		return err
	}
	for _, c := range []struct{ from, to string }{
		{"base", "conf/base/etc"},
		{"base", "etc"},
		{"host", "etc"},
		{"snapshot1", "jail/proto/.cfgd/snapshot/1/etc"},
		{"snapshot1", "jail/proto/.cfgd/snapshot/2/etc"},
		{"snapshot2", "jail/proto/.cfgd/snapshot/2/etc"},
		{"snapshot1", "jail/proto/etc"},
		{"snapshot2", "jail/proto/etc"},
	} {
		if err := copyOut(c.from, filepath.Join(root, c.to)); err != nil {
			return err
		}
	}
	for _, d := range []string{"cfg", "jail/vhost1/etc", "jail/vhost1/cfg", "jail/vhost2/etc",
		"jail/vhost2/cfg"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	return nil
}

// emptyDir makes the directory, or checks that it is empty.
func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return os.MkdirAll(dir, 0o755)
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("%s is not empty: name a directory that is, or one that is not there yet", dir)
	}
	return nil
}

// copyOut writes a part of the embedded files below a directory.
func copyOut(from, to string) error {
	from = path.Join("machine", from)
	return fs.WalkDir(demoFiles, from, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		full := filepath.Join(to, strings.TrimPrefix(p, from))
		if e.IsDir() {
			return os.MkdirAll(full, 0o755)
		}
		b, err := demoFiles.ReadFile(p)
		if err != nil {
			return err
		}
		mode := fs.FileMode(0o644)
		if private[path.Base(p)] {
			mode = 0o600
		}
		return os.WriteFile(full, b, mode)
	})
}
