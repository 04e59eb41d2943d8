package nano

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"cfgd/internal/disk"
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
	Lacks   string   // what it lacks to be booted, in words; "" if it has all
}

// installation is an Install at work.
type installation struct {
	Install
	disk  *Disk
	table *Table
	done  *Installed // its Slice is the destination
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
	i := &installation{in, d, t, &Installed{Slice: *s}}
	im, err := i.image(ctx)
	if err != nil {
		return nil, err
	}
	defer im.end()
	i.done.Form, i.done.Full = im.form, im.full
	if err := i.prepare(ctx); err != nil {
		return nil, err
	}
	if err := i.write(ctx, im); err != nil {
		if t.Next() == s.Index {
			return nil, fmt.Errorf("%s: %w; %s boots next, in its place", s.Name, err, d.Name(d.Running))
		}
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	if err := i.bringUp(ctx); err != nil {
		return i.done, fmt.Errorf("%s is written and whole, but not activated: %w", s.Name, err)
	}
	return i.done, nil
}

// destination returns the slice that in names, or the one that does not run. It must be free.
func (d *Disk) destination(in Install, all []Slice) (*Slice, error) {
	s := Other(all)
	for k := range all {
		if all[k].Number == in.Slice {
			s = &all[k]
		}
	}
	if in.Slice != 0 && s.Number != in.Slice {
		return nil, fmt.Errorf("%s is no slice for a system: %s and %s are", d.Name(in.Slice), all[0].Name,
			all[1].Name)
	}
	return s, d.free(s)
}

// bringUp does what remains after the image is in its slice: it copies the machine's files, looks for a
// loader and a kernel, begins the trial, and activates the slice. A slice that cannot boot is not activated.
func (i *installation) bringUp(ctx context.Context) (err error) {
	if i.Carry {
		if i.done.Carried, err = i.carry(ctx); err != nil {
			return fmt.Errorf("%w; mend that, or install it with --no-carry", err)
		}
	}
	if i.done.Lacks, err = i.lacks(ctx); err != nil {
		return err
	}
	if !i.Activate {
		return nil
	}
	if i.done.Lacks != "" {
		return &CannotBoot{i.done.Slice.Name, i.done.Lacks}
	}
	if i.Trials != nil && i.Within > 0 {
		trial := Trial{Slice: i.done.Slice.Index, From: i.disk.Running, Within: i.Within}
		if err := i.Trials.Begin(ctx, trial); err != nil {
			return fmt.Errorf("its trial could not be noted in cfg: %w", err)
		}
	}
	i.done.Once = i.table.CanTryOnce()
	return i.disk.Activate(ctx, Activation{i.done.Slice.Index, i.done.Once})
}

// image opens the image and fits it to the slice. It checks an image in a file first.
func (i *installation) image(ctx context.Context) (*image, error) {
	nth := 0
	if f, at := seekable(i.From); f != nil {
		file, err := newImageFile(f, at)
		if err != nil {
			return nil, err
		}
		if nth, err = i.check(ctx, file); err != nil {
			return nil, fmt.Errorf("%w; nothing was written", err)
		}
		debug.FreeOSMemory() // free what the check kept, before the image is unpacked again
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			return nil, err
		}
	}
	im, err := openImage(i.From, nth)
	if err != nil {
		return nil, err
	}
	if err = i.fit(ctx, im); err == nil {
		err = im.fits(&i.done.Slice)
	}
	if err != nil {
		im.end()
		return nil, err
	}
	return im, nil
}

// prepare prepares the disk before the slice is written. It checks that the slice can be activated
// afterwards. It makes the running slice boot next until then, because the loader must not boot a slice that
// is half written. It ends every trial, that of the slice's old system and that of the running one; the
// latter is confirmed.
func (i *installation) prepare(ctx context.Context) error {
	t, d, slice := i.table, i.disk, i.done.Slice.Index
	if t.Overtakes(slice) {
		return fmt.Errorf("%s comes before %s: %s takes the first slice that holds a system, and "+
			"would boot it as soon as it is written", d.Name(slice), d.Name(d.Running), t.Loader)
	}
	if i.Activate {
		if _, err := t.Marks(t.choice(Activation{slice, t.CanTryOnce()})); err != nil {
			err = fmt.Errorf("%s could not be activated: %w", d.Name(slice), err)
			if t.Honours() != disk.Nothing || t.Next() == d.Running {
				err = fmt.Errorf("%w; --no-activate writes it alone", err)
			}
			return err
		}
	}
	i.done.Kept = t.trying()
	if i.Trials != nil {
		x, err := i.Trials.Now(ctx)
		i.done.Kept = i.done.Kept || err == nil && x != nil // drop removes a note that cannot be read
	}
	if err := d.Activate(ctx, Activation{Slice: d.Running}); err != nil {
		return fmt.Errorf("%s is to boot next while %s is written: %w", d.Name(d.Running), d.Name(slice), err)
	}
	if i.Trials != nil {
		if err := i.Trials.drop(ctx); err != nil {
			return fmt.Errorf("nothing was written: remove the note of a trial in cfg: %w", err)
		}
	}
	return nil
}

// lacks tells what the system in the slice that was written lacks to be booted; "" if it has all.
func (i *installation) lacks(ctx context.Context) (string, error) {
	s := i.done.Slice
	f, _, err := i.disk.open(ctx, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fsys, err := filesystem(&part{f, s.Start, s.Size}, s.Size)
	if err != nil {
		return "", err
	}
	return lacks(fsys.FS, i.table.Loader)
}

// write pours the image into its slice.
func (i *installation) write(ctx context.Context, im *image) error {
	done := i.done
	f, base, err := i.open(ctx)
	if err != nil {
		return err
	}
	defer f.Close()
	// First the choice of prepare comes to stable storage, also if an earlier command wrote it and was
	// killed.
	if err := f.Sync(); err != nil {
		return fmt.Errorf("bring the table to stable storage: %w; nothing was written", err)
	}
	if i.Begin != nil {
		i.Begin(im.size, done.Slice.Name)
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
		if err := sameDigest(done.Digest, i.SHA256); err != nil {
			return err
		}
		done.Fstabs, err = own(i.disk.layout(), &patched{r, first}, done.Slice, end)
		return err
	}
	done.Bytes, err = pour(ctx, r, done.Slice.Size, im.body, whole, i.Progress)
	return err
}

// open opens the slice for writing: its device, or its part of a file that stands for the disk.
func (i *installation) open(ctx context.Context) (device, int64, error) {
	d, s := i.disk, &i.done.Slice
	if d.Command {
		name := filepath.Join(filepath.Dir(d.File), filepath.Base(s.Name))
		f, err := openBelow(d.Root, name, os.O_RDWR)
		if err != nil {
			return nil, 0, err
		}
		return d.watched(name, f), 0, nil
	}
	f, _, err := d.open(ctx, os.O_RDWR)
	return f, s.Start, err
}
