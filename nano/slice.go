package nano

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"cfgd/internal/disk"
	"cfgd/internal/ufs"
)

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

// imageIn finds out what system a slice holds. It looks for what the loader boots, unless the system runs,
// and so has booted.
func imageIn(r io.ReaderAt, size int64, l disk.Loader, runs bool) Image {
	f, err := filesystem(r, size)
	if err != nil {
		return Image{Trouble: err.Error()}
	}
	im := Image{Label: f.Label}
	if f.Bytes > f.room {
		im.Trouble = fmt.Sprintf("its filesystem is of %d bytes, and its partition of %d", f.Bytes, f.room)
		return im
	}
	e, err := f.Stat(baseEtc)
	if err != nil {
		im.Trouble = err.Error()
		return im
	}
	im.Date = time.Unix(0, e.MTime).UTC()
	if runs {
		return im
	}
	if im.Trouble, err = lacks(f.FS, l); err != nil {
		im.Trouble = err.Error()
	}
	return im
}

const baseEtc = "conf/base/etc"

// part is a slice of a disk. A disk can read only whole sectors. For other reads, part reads the sectors
// around them.
type part struct {
	disk.Device
	base int64
	size int64
}

func (p *part) ReadAt(b []byte, at int64) (int, error) {
	switch {
	case at < 0 || at > p.size:
		return 0, io.ErrUnexpectedEOF
	case at+int64(len(b)) > p.size:
		n, err := p.ReadAt(b[:p.size-at], at)
		return n, cmp.Or(err, io.EOF)
	case at%sector == 0 && len(b)%sector == 0:
		return p.Device.ReadAt(b, p.base+at)
	}
	from := at / sector * sector
	whole := make([]byte, min((at+int64(len(b))-from+sector-1)/sector*sector, p.size-from))
	n, err := p.Device.ReadAt(whole, p.base+from)
	if int64(n) < at-from {
		return 0, cmp.Or(err, io.ErrUnexpectedEOF)
	}
	if n = copy(b, whole[at-from:n]); n == len(b) {
		err = nil
	}
	return n, err
}

func (p *part) WriteAt(b []byte, at int64) (int, error) {
	if at < 0 || at+int64(len(b)) > p.size {
		return 0, ErrTooLarge
	}
	return p.Device.WriteAt(b, p.base+at)
}

// patched is a slice whose first block is only in memory so far.
type patched struct {
	disk.Device
	first []byte
}

func (p *patched) ReadAt(b []byte, at int64) (int, error) {
	n := 0
	if at < int64(len(p.first)) {
		n = copy(b, p.first[at:])
	}
	if n == len(b) {
		return n, nil
	}
	k, err := p.Device.ReadAt(b[n:], at+int64(n))
	return n + k, err
}

// set changes bytes within one sector, because only whole sectors can be written to a disk.
func (p *patched) set(b []byte, at int64) error {
	if at < int64(len(p.first)) {
		copy(p.first[at:], b)
		return nil
	}
	s := make([]byte, sector)
	from := at / sector * sector
	if _, err := p.Device.ReadAt(s, from); err != nil {
		return err
	}
	copy(s[at-from:], b)
	return disk.Put(p.Device, s, from)
}

// isCode reports whether a slice may hold a system.
func isCode(t *disk.Table, s disk.Slice) bool {
	if t.Scheme == "GPT" {
		return s.Type == "freebsd-ufs"
	}
	return s.Type == "freebsd"
}

// ErrImage is the error for a file that is no image of NanoBSD.
var ErrImage = errors.New("no image of NanoBSD")
