package overlay

import (
	"cfgd/overlay/store"
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// noteTrial is the one note that a store may hold beside what is its own.
const noteTrial = "trial"

// maxNote bounds a note, in bytes.
const maxNote = 4 << 10

// Trial reads the note of a system on trial, which has to outlive a restart of a machine that has nothing but cfg to write to. The error is fs.ErrNotExist where
// there is none.
func (o *Overlay) Trial(ctx context.Context) (b []byte, err error) {
	err = o.reading(ctx, func(s *store.Store, _ *store.Base) error {
		if s.Meta == nil {
			return fs.ErrNotExist
		}
		b, err = s.Meta.ReadFile(noteTrial, maxNote)
		return err
	})
	return b, err
}

// WriteTrial replaces the note, durably; nil takes it away.
func (o *Overlay) WriteTrial(ctx context.Context, b []byte) error {
	unlock, err := o.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	base, err := o.base(ctx)
	if err != nil {
		return err
	}
	s, err := o.openStore(ctx, base, false)
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
