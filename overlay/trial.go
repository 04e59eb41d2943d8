package overlay

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"cfgd/overlay/store"
)

// TrialNote is the note about a system on trial. It must survive a restart of a machine on which only cfg is
// writable, so it stands in the store.
type TrialNote struct{ o *Overlay }

// TrialNote returns the note. It opens nothing yet.
func (o *Overlay) TrialNote() TrialNote { return TrialNote{o} }

// noteTrial is the only note that a store may hold beside its own files.
const noteTrial = "trial"

// maxNote bounds a note, in bytes.
const maxNote = 4 << 10

// Read reads the note. If there is none, the error is fs.ErrNotExist.
func (n TrialNote) Read(ctx context.Context) (b []byte, err error) {
	err = n.o.History().reading(ctx, func(s *store.Store, _ *store.Base) error {
		if s.Meta == nil {
			return fs.ErrNotExist
		}
		b, err = s.Meta.ReadFile(noteTrial, maxNote)
		return err
	})
	return b, err
}

// Write replaces the note and syncs it. Nil removes it.
func (n TrialNote) Write(ctx context.Context, b []byte) error {
	o := n.o
	unlock, err := o.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	base, err := o.base(ctx)
	if err != nil {
		return err
	}
	s, err := o.openStore(ctx, base, toWrite)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := store.Fits("note", b, maxNote); err != nil {
		return err
	}
	if s.ReadOnly {
		return fmt.Errorf("cfg %s: %w", o.Target.Cfg, ErrReadOnly)
	}
	if b == nil {
		err = s.Meta.Unlink(noteTrial)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	} else {
		err = s.ReplaceFile(noteTrial, b)
	}
	if err != nil {
		return err
	}
	return s.Meta.Sync()
}
