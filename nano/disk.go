package nano

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/disk"
	"cfgd/internal/mount"
	"cfgd/internal/run"
	"cfgd/internal/ufs"
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
}

// Image is what is known about the system in a slice.
type Image struct {
	Label   string    // of the filesystem
	Date    time.Time // when its /conf/base/etc was made
	Trouble string    // why it can't be booted; "" if nothing is known against it
}

// Slice is one of the two slices with systems.
type Slice struct {
	disk.Slice
	Name    string // ada0s1
	Number  int    // as in the name of fstab: that of ada0s1, or with a label 1 or 2
	Source  string // the device in its fstab: /dev/ada0s1a, /dev/gpt/NAME1
	Running bool
	Next    bool
	Trial   bool // it was booted once, and the other one boots next unless it is confirmed
	Image   Image
}

// called reports whether a slice has this name: the disk's name, the name in fstab, or the number in that
// name.
func (s *Slice) called(name string) bool {
	name = strings.TrimPrefix(name, "/dev/")
	return name == s.Name || "/dev/"+name == s.Source || name == strconv.Itoa(s.Number)
}

// ErrInUse is the error for a slice that runs or is mounted.
var ErrInUse = errors.New("is in use")

// open opens the disk. The size is that of the file, or what diskinfo(8) prints.
func (d *Disk) open(ctx context.Context, flag int) (*os.File, int64, error) {
	f, err := d.openBelow(d.File, flag)
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
func (d *Disk) openBelow(name string, flag int) (*os.File, error) {
	if d.Root == "" || d.Root == "/" {
		return os.OpenFile(name, flag, 0)
	}
	rel, err := filepath.Rel(d.Root, name)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(d.Root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenFile(rel, flag, 0)
}

// Table reads the disk's table.
func (d *Disk) Table(ctx context.Context) (*disk.Table, error) {
	f, size, err := d.open(ctx, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := disk.Read(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.File, err)
	}
	if len(d.systems(t)) < 2 {
		return nil, fmt.Errorf("%s: %w: it has no two slices for systems", d.File, disk.ErrTable)
	}
	d.findLoader(ctx, f, t)
	return t, nil
}

// Name returns a slice's name below /dev.
func (d *Disk) Name(index int) string { return fmt.Sprintf("%s%s%d", d.Drive, d.Kind, index) }

// Slices returns the two slices with systems, and the table.
func (d *Disk) Slices(ctx context.Context) ([]Slice, *disk.Table, error) {
	t, err := d.Table(ctx)
	if err != nil {
		return nil, nil, err
	}
	f, _, err := d.open(ctx, os.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	var all []Slice
	known, failed := false, d.failed()
	for _, s := range d.systems(t) {
		x := Slice{
			Slice: s, Name: d.Name(s.Index), Number: d.number(s.Index), Source: d.source(s.Index),
			Running: s.Index == d.Running, Next: s.Index == t.Next(),
			Trial: s.Index == d.Running && d.trying(t),
		}
		x.Failed = x.Failed || failed[s.Index]
		x.Image = look(&part{f, s.Start, s.Size}, s.Size)
		known = known || x.Running
		all = append(all, x)
	}
	if !known {
		return nil, nil, fmt.Errorf("%s: / is on %s, which is none of %s and %s", d.Origin, d.Name(d.Running),
			all[0].Name, all[1].Name)
	}
	return all, t, nil
}

// Other returns the slice that does not run.
func Other(all []Slice) *Slice {
	for i := range all {
		if !all[i].Running {
			return &all[i]
		}
	}
	return nil
}

// found is the filesystem of a slice, and its place.
type found struct {
	*ufs.FS
	start    int64 // bytes from the start of the slice
	room     int64 // bytes of partition a, or of the slice
	labelled bool  // the slice has a BSD label; its partition a may begin where the slice does
}

// filesystem finds the filesystem of a slice: in partition a, or in the whole slice if there is no label.
func filesystem(r io.ReaderAt, size int64) (*found, error) {
	parts, err := disk.ReadLabel(r, size)
	if errors.Is(err, disk.ErrNoLabel) {
		f, err := ufs.Open(r, size)
		return &found{f, 0, size, false}, err
	}
	if err != nil {
		return nil, err
	}
	for _, p := range parts {
		if p.Letter == 'a' {
			f, err := ufs.Open(io.NewSectionReader(r, p.Start, p.Size), p.Size)
			return &found{f, p.Start, p.Size, true}, err
		}
	}
	return nil, fmt.Errorf("%w: no partition a", ErrImage)
}

// look finds out what system a slice holds.
func look(r io.ReaderAt, size int64) Image {
	f, err := filesystem(r, size)
	if err != nil {
		return Image{Trouble: err.Error()}
	}
	im := Image{Label: f.Label}
	e, err := f.Stat(baseEtc)
	if err != nil {
		im.Trouble = err.Error()
		return im
	}
	im.Date = time.Unix(0, e.MTime).UTC()
	return im
}

const baseEtc = "conf/base/etc"

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
