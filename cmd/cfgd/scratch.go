package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"cfgd/internal/dirfd"
	"cfgd/internal/mount"
	sysrun "cfgd/internal/run"
)

// scratch is a directory for the defaults of an image, for as long as a command runs.
type scratch struct {
	dir    string
	note   string // why it is not in the first of the usual places; "" if it is
	remove func() error
}

// newScratch makes a directory with space for so many bytes, in the first of the usual places that has
// enough, else on a filesystem in memory.
func newScratch(ctx context.Context, m *machine, bytes int64) (*scratch, error) {
	places := []string{os.TempDir(), "/var/tmp", "/tmp"}
	if m.Root != "" { // the name of a base is below it
		places = []string{m.Path("/tmp")}
		if err := os.MkdirAll(places[0], 0o1777); err != nil {
			return nil, err
		}
	}
	bytes += bytes/8 + 64<<10
	var why []string
	for i, place := range places {
		dir, err := makeIn(place, bytes)
		if err != nil {
			why = append(why, err.Error())
			continue
		}
		x := &scratch{dir: dir, remove: func() error { os.RemoveAll(dir); return nil }}
		if i > 0 {
			x.note = fmt.Sprintf("the image's defaults are unpacked in %s: %s", dir, why[0])
		}
		return x, nil
	}
	short := fmt.Errorf("no room for the image's defaults: they take %s; %s; TMPDIR names another directory",
		bytesText(uint64(bytes)), strings.Join(why, "; "))
	if m.Root != "" || os.Geteuid() != 0 {
		return nil, short
	}
	x, err := scratchInMemory(ctx, m.Path("/var/run"), bytes)
	if err != nil {
		return nil, errors.Join(short, err)
	}
	x.note = fmt.Sprintf("the image's defaults are unpacked in memory, on %s: %s", x.dir, why[0])
	return x, nil
}

// makeIn makes a directory in a place that has enough space. The error tells what is wrong with the place.
func makeIn(place string, bytes int64) (string, error) {
	free, err := freeBytes(place)
	if err == nil && free < bytes {
		err = fmt.Errorf("%s has no room for %s", place, bytesText(uint64(bytes)))
	}
	if err != nil {
		return "", err
	}
	return os.MkdirTemp(place, "cfgd-image-")
}

// scratchInMemory makes a directory and mounts a tmpfs of that size on it.
func scratchInMemory(ctx context.Context, place string, bytes int64) (*scratch, error) {
	dir, err := os.MkdirTemp(place, "cfgd-image-")
	if err != nil {
		return nil, err
	}
	m := mount.Memdisk{Backing: mount.Tmpfs, Size: bytes, Dir: dir, GOOS: runtime.GOOS}
	if _, err := m.Make(ctx, sysrun.System{}); err != nil {
		return nil, errors.Join(err, os.Remove(dir))
	}
	return &scratch{dir: dir, remove: func() error {
		for _, c := range m.UnmakePlan() {
			if _, err := (sysrun.System{}).Run(context.WithoutCancel(ctx), c); err != nil {
				return err
			}
		}
		return os.Remove(dir)
	}}, nil
}

// freeBytes returns how many bytes may still be written to the filesystem of a directory.
func freeBytes(name string) (int64, error) {
	dir, err := dirfd.Open(name, nil)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	space, err := dir.Space()
	if err != nil {
		return 0, err
	}
	if space.ReadOnly {
		return 0, fmt.Errorf("%s is read-only", name)
	}
	return int64(min(space.Free, 1<<62)), nil
}
