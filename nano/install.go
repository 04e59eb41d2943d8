package nano

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cfgd/internal/disk"
	"cfgd/internal/flock"
)

// Install says what is to be installed.
type Install struct {
	From     io.Reader
	SHA256   string // in hexadecimal, of what comes in; "" for not asked
	Slice    int    // its number in fstab's names; 0 is the one that does not run
	Activate bool
	Carry    bool          // the running system's files of the machine, into the new one
	Trials   *Trials       // nil where nobody keeps any
	Within   time.Duration // with Activate: the trial of the new one; 0 for none
	Progress func(n int64)
	Begin    func(total int64, name string) // told before the first byte is written; total is 0 where it is not known
}

// Installed is what was installed.
type Installed struct {
	Slice   Slice
	Form    string
	Full    bool
	Bytes   int64
	Digest  string // SHA-256 of what came in
	Once    bool   // it boots once, and is to be confirmed
	Fstabs  []string
	Label   string   // that its filesystem was given
	Carried []string // files of the running system that are in the new one now
}

// ErrBusy says that another installation is at work.
var ErrBusy = errors.New("another cfgd nano is at work on this disk")

// Lock keeps two of them apart.
func (m *Machine) Lock(ctx context.Context) (func(), error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	unlock, err := flock.Wait(ctx, filepath.Join(m.RunDir, "nano"))
	if errors.Is(err, flock.ErrHeld) {
		return nil, ErrBusy
	}
	return unlock, err
}

// Install writes an image into a slice that does not run. The running one is not touched by anything that may go wrong; what the other holds
// afterwards is whole, or does not boot, and the error says which.
func (m *Machine) Install(ctx context.Context, in Install) (*Installed, error) {
	unlock, err := m.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	defer frugal()()
	all, t, err := m.Slices(ctx)
	if err != nil {
		return nil, err
	}
	s := Other(all)
	for i := range all {
		if in.Slice == all[i].Number {
			s = &all[i]
		}
	}
	if in.Slice != 0 && s.Number != in.Slice {
		return nil, fmt.Errorf("%s is no slice for a system: %s and %s are", m.Name(in.Slice), all[0].Name, all[1].Name)
	}
	if err := m.free(s); err != nil {
		return nil, err
	}
	im, err := openImage(in.From)
	if err != nil {
		return nil, err
	}
	defer im.end()
	if err := m.fit(ctx, im, s, t); err != nil {
		return nil, err
	}
	if im.size > s.Size {
		return nil, fmt.Errorf("%w: %d bytes, and %s has %d", ErrTooLarge, im.size, s.Name, s.Size)
	}
	done := &Installed{Slice: *s, Form: im.form, Full: im.full}
	if err := m.ready(ctx, in, t, s.Index); err != nil {
		return nil, err
	}
	if err := m.write(ctx, in, im, done); err != nil {
		if t.Next() == s.Index {
			return nil, fmt.Errorf("%s: %w; %s boots next, in its place", s.Name, err, m.Name(m.Running))
		}
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	if in.Carry {
		if done.Carried, err = m.carry(ctx, &done.Slice); err != nil {
			return done, fmt.Errorf("%s is written and whole, but not activated: %w; mend that, or install it with --no-carry", s.Name, err)
		}
	}
	if !in.Activate {
		return done, nil
	}
	if in.Trials != nil && in.Within > 0 {
		if err := in.Trials.Begin(ctx, Trial{Slice: s.Index, From: m.Running, Within: in.Within}); err != nil {
			return done, fmt.Errorf("%s is written and whole, but not activated: its trial could not be noted in cfg: %w", s.Name, err)
		}
	}
	done.Once = t.CanTryOnce()
	if err := m.Activate(ctx, Activation{s.Index, done.Once}); err != nil {
		return done, fmt.Errorf("%s is written and whole, but not activated: %w", s.Name, err)
	}
	return done, nil
}

// ready sees, before a slice is written to, that it can be activated afterwards, and makes the running one boot next until then: what is half written
// must not be what the loader takes. A trial of what stood there is over.
func (m *Machine) ready(ctx context.Context, in Install, t *disk.Table, slice int) error {
	if in.Activate {
		if _, err := t.Marks(m.choice(Activation{slice, t.CanTryOnce()})); err != nil {
			return fmt.Errorf("%s could not be activated: %w; --no-activate writes it alone", m.Name(slice), err)
		}
	}
	if err := m.Activate(ctx, Activation{Slice: m.Running}); err != nil {
		return fmt.Errorf("%s is to boot next while %s is written: %w", m.Name(m.Running), m.Name(slice), err)
	}
	if in.Trials == nil {
		return nil
	}
	return in.Trials.drop(ctx)
}

// write pours the image into its slice.
func (m *Machine) write(ctx context.Context, in Install, im *image, done *Installed) error {
	f, base, err := m.slice(ctx, &done.Slice)
	if err != nil {
		return err
	}
	defer f.Close()
	if in.Begin != nil {
		in.Begin(im.size, done.Slice.Name)
	}
	r := &part{f, base, done.Slice.Size}
	whole := func(first []byte, end int64) error {
		if im.size > 0 && end < im.size && !im.full {
			return errCut
		}
		digest, err := im.finish()
		if err != nil {
			return err
		}
		done.Digest = hex.EncodeToString(digest[:])
		if in.SHA256 != "" && !strings.EqualFold(in.SHA256, done.Digest) {
			return fmt.Errorf("SHA-256 is %s and not %s: another image, or a damaged one", done.Digest, in.SHA256)
		}
		done.Fstabs, err = m.own(&patched{r, first}, done.Slice, end)
		return err
	}
	done.Bytes, err = pour(ctx, r, done.Slice.Size, im.body, whole, in.Progress)
	return err
}

// slice opens a slice for writing: its device, or its part of the file that stands for the disk.
func (m *Machine) slice(ctx context.Context, s *Slice) (*os.File, int64, error) {
	if m.Command {
		f, err := m.openBelow(filepath.Join(filepath.Dir(m.File), filepath.Base(s.Name)), os.O_RDWR)
		return f, 0, err
	}
	f, _, err := m.open(ctx, os.O_RDWR)
	return f, s.Start, err
}

// part is a slice of a disk. A disk reads whole sectors alone, at their beginnings: what is asked for otherwise is cut out of those around it.
type part struct {
	region
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
		return p.region.ReadAt(b, p.base+at)
	}
	from := at / sector * sector
	whole := make([]byte, min((at+int64(len(b))-from+sector-1)/sector*sector, p.size-from))
	n, err := p.region.ReadAt(whole, p.base+from)
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
	return p.region.WriteAt(b, p.base+at)
}

// patched is a slice whose first block is still in memory.
type patched struct {
	region
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
	k, err := p.region.ReadAt(b[n:], at+int64(n))
	return n + k, err
}

// set changes bytes that lie in one sector: on the disk whole sectors are written.
func (p *patched) set(b []byte, at int64) error {
	if at < int64(len(p.first)) {
		copy(p.first[at:], b)
		return nil
	}
	s := make([]byte, sector)
	from := at / sector * sector
	if _, err := p.region.ReadAt(s, from); err != nil {
		return err
	}
	copy(s[at-from:], b)
	if err := put(p.region, s, from); err != nil {
		return err
	}
	back := make([]byte, sector)
	if _, err := p.region.ReadAt(back, from); err != nil || !bytes.Equal(back, s) {
		return errors.Join(err, errors.New("what was read back is not what was written: the disk is failing"))
	}
	return nil
}
