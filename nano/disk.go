package nano

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/disk"
	"cfgd/internal/flock"
	"cfgd/internal/mount"
	"cfgd/internal/run"
)

// Disk is the disk of a NanoBSD host: two slices with systems, of which one runs.
type Disk struct {
	config.Nano             // with the disk's own names and indexes
	Layout      config.Nano // with the names of the configuration, if they are labels; see Find
	File        string      // the device, or with --root the file that stands for it
	Root        string      // /, or what --root names
	RunDir      string      // /var/run/cfgd, for the lock
	Run         run.Runner
	// Command is set if gpart(8) writes the table. GEOM lets no other program write the table of a disk in
	// use.
	Command bool
	// Mounted is mount.All, and MountedOn is mount.On.
	Mounted   func() ([]mount.Mount, error)
	MountedOn func(dir string) ([]mount.Mount, error)
	Warn      func(text string) // gets warnings; may be nil

	watch func(name string, d device) device // of tests: sees what is done to a disk or slice; may be nil
}

// device is an open disk or slice.
type device interface {
	disk.Device
	io.Closer
}

// deviceFile is a device, or a file that stands for one. Its Sync brings to stable storage what was written
// to it, and what gpart(8) wrote to its disk.
type deviceFile struct{ *os.File }

func (f deviceFile) Sync() error { return disk.Flush(f.File) }

// open opens the disk. The size is that of the file, or what diskinfo(8) prints.
func (d *Disk) open(ctx context.Context, flag int) (device, int64, error) {
	f, size, err := d.openSized(ctx, flag)
	if err != nil {
		return nil, 0, err
	}
	return d.watched(d.File, f), size, nil
}

// watched returns an open file as a device.
func (d *Disk) watched(name string, f *os.File) device {
	if d.watch != nil {
		return d.watch(name, deviceFile{f})
	}
	return deviceFile{f}
}

func (d *Disk) openSized(ctx context.Context, flag int) (*os.File, int64, error) {
	f, err := openBelow(d.Root, d.File, flag)
	if err != nil {
		return nil, 0, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	if st.Mode().IsRegular() {
		return f, st.Size(), nil
	}
	out, err := d.Run.Run(ctx, run.Command("diskinfo", d.Drive))
	words := strings.Fields(out)
	if err == nil && len(words) < 3 {
		err = fmt.Errorf("diskinfo %s says %q", d.Drive, out)
	}
	if err == nil && words[1] != strconv.Itoa(sector) {
		err = fmt.Errorf("%s has sectors of %s bytes: cfgd and NanoBSD's images know those of %d alone",
			d.Drive, words[1], sector)
	}
	var size int64
	if err == nil {
		size, err = strconv.ParseInt(words[2], 10, 64)
	}
	if err != nil {
		f.Close()
	}
	return f, size, err
}

// openBelow opens a device, or with --root a file that stands for one. No link leads out of the directory of
// --root.
func openBelow(root, name string, flag int) (*os.File, error) {
	if root == "" || root == "/" {
		return os.OpenFile(name, flag, 0)
	}
	rel, err := filepath.Rel(root, name)
	if err != nil {
		return nil, err
	}
	top, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer top.Close()
	return top.OpenFile(rel, flag, 0)
}

// Name returns a slice's name below /dev.
func (d *Disk) Name(index int) string { return fmt.Sprintf("%s%s%d", d.Drive, d.Kind, index) }

// free returns an error if a slice runs, or if something of it is mounted.
func (d *Disk) free(s *Slice) error {
	if s.Running {
		return fmt.Errorf("%s %w: the machine runs from it", s.Name, ErrInUse)
	}
	on, err := d.Mounted()
	if err != nil {
		return err
	}
	for _, x := range on {
		rest, ok := strings.CutPrefix(x.Source, "/dev/"+s.Name)
		if x.Source == s.Source || ok && (rest == "" || len(rest) == 1 && rest[0] >= 'a' && rest[0] <= 'h') {
			return fmt.Errorf("%s %w: %s is mounted", s.Name, ErrInUse, x.Source)
		}
	}
	return nil
}

// Lock takes the lock of the disk. An installation takes long, so that it does not wait for one.
func (d *Disk) Lock(ctx context.Context) (func(), error) { return d.wait(ctx, time.Second) }

// wait waits for the lock of the disk.
func (d *Disk) wait(ctx context.Context, limit time.Duration) (unlock func(), err error) {
	return flock.Lock(ctx, filepath.Join(d.RunDir, "nano"), "this disk", limit)
}

// layout returns how fstab names the systems.
func (d *Disk) layout() *config.Nano {
	if d.Layout.Drive == "" {
		return &d.Nano
	}
	return &d.Layout
}

// number returns the number in fstab's name of the system in a slice. It is the index of the slice. With a
// label it is 1 or 2: the running slice has the number of fstab, and the other slice has the other number.
func (d *Disk) number(index int) int {
	l := d.layout()
	switch {
	case l.Label() == "":
		return index
	case index == d.Running:
		return l.Running
	}
	return 3 - l.Running
}

// source returns the device that fstab names for the system in a slice.
func (d *Disk) source(index int) string { return d.layout().Source(d.number(index)) }

// Table is the table of the disk, with the names of its slices.
type Table struct {
	*disk.Table
	disk *Disk
}
