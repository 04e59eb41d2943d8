package nano

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"cfgd/internal/disk"
	"cfgd/internal/flock"
)

// Install describes what is to be installed.
type Install struct {
	From     io.Reader
	SHA256   string // in hexadecimal, of the input; "" if it is not checked
	Slice    int    // its number in fstab's names; 0 is the one that does not run
	Activate bool
	Carry    bool          // copy the machine's files of the running system into the new one
	Trials   *Trials       // nil if there are no trials
	Within   time.Duration // with Activate: the trial of the new one; 0 for none
	Progress func(n int64) // may be nil
	// Begin is called before the first byte is written. total is 0 if it is not known.
	Begin func(total int64, name string)
}

// Installed is what was installed.
type Installed struct {
	Slice   Slice
	Kept    bool // the running system was on trial, and is confirmed: two trials at once are not possible
	Form    string
	Full    bool
	Bytes   int64
	Digest  string // SHA-256 of the input
	Once    bool   // it boots once, and has to be confirmed
	Fstabs  []string
	Label   string   // the new label of its filesystem
	Carried []string // files of the running system that were copied into it
	Lacks   []string // what it lacks to be booted, in words
}

// Lock takes the lock of the disk. An installation takes long, so that it does not wait for one.
func (d *Disk) Lock(ctx context.Context) (func(), error) { return d.wait(ctx, time.Second) }

// wait waits for the lock of the disk.
func (d *Disk) wait(ctx context.Context, limit time.Duration) (unlock func(), err error) {
	return flock.Lock(ctx, filepath.Join(d.RunDir, "nano"), "this disk", limit)
}

// Install writes an image into the slice that does not run. The running slice stays unchanged, whatever
// fails. The other slice holds the whole image afterwards, or does not boot; the error says which.
func (d *Disk) Install(ctx context.Context, in Install) (*Installed, error) {
	unlock, err := d.Lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	defer frugal()()
	if err := d.sweep(ctx); err != nil {
		return nil, err
	}
	all, t, err := d.Slices(ctx)
	if err != nil {
		return nil, err
	}
	s, err := d.destination(in, all)
	if err != nil {
		return nil, err
	}
	im, err := d.image(ctx, in, s, t)
	if err != nil {
		return nil, err
	}
	defer im.end()
	done := &Installed{Slice: *s, Form: im.form, Full: im.full}
	if done.Kept, err = d.ready(ctx, in, t, s.Index); err != nil {
		return nil, err
	}
	if err := d.write(ctx, in, im, done); err != nil {
		if t.Next() == s.Index {
			return nil, fmt.Errorf("%s: %w; %s boots next, in its place", s.Name, err, d.Name(d.Running))
		}
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	if err := d.bringUp(ctx, in, t, done); err != nil {
		return done, fmt.Errorf("%s is written and whole, but not activated: %w", s.Name, err)
	}
	return done, nil
}

// destination returns the slice that in names, or the one that does not run. It must be free.
func (d *Disk) destination(in Install, all []Slice) (*Slice, error) {
	s := Other(all)
	for i := range all {
		if in.Slice == all[i].Number {
			s = &all[i]
		}
	}
	if in.Slice != 0 && s.Number != in.Slice {
		return nil, fmt.Errorf("%s is no slice for a system: %s and %s are", d.Name(in.Slice), all[0].Name,
			all[1].Name)
	}
	return s, d.free(s)
}

// bringUp does what remains after the image is in its slice: it copies the machine's files, looks for a
// loader and a kernel, begins the trial, and activates the slice.
func (d *Disk) bringUp(ctx context.Context, in Install, t *disk.Table, done *Installed) (err error) {
	if in.Carry {
		if done.Carried, err = d.carry(ctx, &done.Slice); err != nil {
			return fmt.Errorf("%w; mend that, or install it with --no-carry", err)
		}
	}
	if done.Lacks, err = d.lacks(ctx, &done.Slice, t); err != nil {
		return err
	}
	if !in.Activate {
		return nil
	}
	if in.Trials != nil && in.Within > 0 {
		trial := Trial{Slice: done.Slice.Index, From: d.Running, Within: in.Within}
		if err := in.Trials.Begin(ctx, trial); err != nil {
			return fmt.Errorf("its trial could not be noted in cfg: %w", err)
		}
	}
	done.Once = t.CanTryOnce()
	return d.Activate(ctx, Activation{done.Slice.Index, done.Once})
}

// image opens the image and fits it to the slice. It checks an image in a file first.
func (d *Disk) image(ctx context.Context, in Install, s *Slice, t *disk.Table) (*image, error) {
	nth := 0
	if f, at := seekable(in.From); f != nil {
		file, err := newImageFile(f, at)
		if err != nil {
			return nil, err
		}
		if nth, err = d.check(ctx, in, file, s, t); err != nil {
			return nil, fmt.Errorf("%w; nothing was written", err)
		}
		debug.FreeOSMemory() // free what the check kept, before the image is unpacked again
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			return nil, err
		}
	}
	im, err := openImage(in.From, nth)
	if err != nil {
		return nil, err
	}
	if err = d.fit(ctx, im, s, t); err == nil && im.size > s.Size {
		err = tooLarge(im, s)
	}
	if err != nil {
		im.end()
		return nil, err
	}
	return im, nil
}

// ready prepares the disk before a slice is written. It checks that the slice can be activated afterwards. It
// makes the running slice boot next until then, because the loader must not boot a slice that is half
// written. It ends every trial, that of the slice's old system and that of the running one; kept reports the
// latter.
func (d *Disk) ready(ctx context.Context, in Install, t *disk.Table, slice int) (kept bool, err error) {
	if t.Overtakes(slice) {
		return false, fmt.Errorf("%s comes before %s: %s takes the first slice that holds a system, and "+
			"would boot it as soon as it is written", d.Name(slice), d.Name(d.Running), t.Loader)
	}
	if in.Activate {
		if _, err := t.Marks(d.choice(Activation{slice, t.CanTryOnce()})); err != nil {
			err = fmt.Errorf("%s could not be activated: %w", d.Name(slice), err)
			if t.Honours() != disk.Nothing || t.Next() == d.Running {
				err = fmt.Errorf("%w; --no-activate writes it alone", err)
			}
			return false, err
		}
	}
	kept = d.trying(t)
	if in.Trials != nil {
		x, err := in.Trials.Now(ctx)
		kept = kept || err == nil && x != nil // drop removes a note that cannot be read
	}
	if err := d.Activate(ctx, Activation{Slice: d.Running}); err != nil {
		err = fmt.Errorf("%s is to boot next while %s is written: %w", d.Name(d.Running), d.Name(slice), err)
		return false, err
	}
	if in.Trials != nil {
		if err := in.Trials.drop(ctx); err != nil {
			return kept, fmt.Errorf("nothing was written: remove the note of a trial in cfg: %w", err)
		}
	}
	return kept, nil
}

// starts are the files by which a loader starts a system. The first existing one of each list counts.
var starts = map[disk.Loader][]string{
	disk.Boot0: {"boot/loader"}, disk.PlainMBR: {"boot/loader"}, disk.GPTBoot: {"boot/loader"},
	disk.GPTBootEFI: {"boot/loader.efi"}, disk.Boot1EFI: {"boot/loader.efi"},
	disk.LoaderEFI: {"boot/defaults/loader.conf"}, disk.Unknown: {"boot/loader", "boot/loader.efi"},
}

// kernels are the usual places of a kernel. The loader can unpack it.
var kernels = []string{"boot/kernel/kernel", "boot/kernel/kernel.gz"}

// lacks looks for a loader and a kernel in a slice that was written.
func (d *Disk) lacks(ctx context.Context, s *Slice, t *disk.Table) ([]string, error) {
	f, _, err := d.open(ctx, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fsys, err := filesystem(&part{f, s.Start, s.Size}, s.Size)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, names := range [][]string{starts[t.Loader], kernels} {
		if !slices.ContainsFunc(names,
			func(name string) bool { _, err := fsys.Stat(name); return err == nil }) {
			all = append(all, "no /"+strings.Join(names, " and no /")+" in it: does it boot?")
		}
	}
	return all, nil
}

// write pours the image into its slice.
func (d *Disk) write(ctx context.Context, in Install, im *image, done *Installed) error {
	f, base, err := d.slice(ctx, &done.Slice)
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
		if err := sameDigest(done.Digest, in.SHA256); err != nil {
			return err
		}
		done.Fstabs, err = d.own(&patched{r, first}, done.Slice, end)
		return err
	}
	done.Bytes, err = pour(ctx, r, done.Slice.Size, im.body, whole, in.Progress)
	return err
}

// slice opens a slice for writing: its device, or its part of a file that stands for the disk.
func (d *Disk) slice(ctx context.Context, s *Slice) (*os.File, int64, error) {
	if d.Command {
		f, err := d.openBelow(filepath.Join(filepath.Dir(d.File), filepath.Base(s.Name)), os.O_RDWR)
		return f, 0, err
	}
	f, _, err := d.open(ctx, os.O_RDWR)
	return f, s.Start, err
}

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
