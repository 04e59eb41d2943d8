package store

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// ErrNoSpace says that cfg's filesystem has too little room for a save.
var ErrNoSpace = errors.New("no room")

// noSpace turns the system's error for a full disk, no inodes or a quota into ErrNoSpace. makeRoom counts
// bytes only, and another program may have taken them since.
func noSpace(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("cfg: %w: %w", ErrNoSpace, err)
	}
	return err
}

// makeRoom estimates what a plan takes and drops the oldest history until there is room for it.
func (s *Store) makeRoom(ctx context.Context, p *Plan) error {
	need, err := s.need(p)
	if err != nil {
		return err
	}
	var space dirfd.Space
	enough := func() bool {
		space, err = s.Cfg.Space()
		return err == nil && space.Free >= need
	}
	if enough() {
		return nil
	}
	if perr := s.Prune(ctx, enough); perr != nil {
		return perr
	}
	if !enough() && err == nil {
		err = fmt.Errorf("cfg: %w: the save needs %d KiB and %d KiB are free; nothing was saved", ErrNoSpace,
			(need+1023)/1024, space.Free/1024)
	}
	return err
}

// need returns an upper bound, in bytes, of what a commit writes: content, the history of what it replaces,
// defaults, manifests and journal.
func (s *Store) need(p *Plan) (uint64, error) {
	space, err := s.Cfg.Space()
	if err != nil {
		return 0, err
	}
	block := max(space.Block, 512)
	round := func(n int64) uint64 { return (uint64(n) + block - 1) / block * block }
	var n uint64
	for i := range p.Puts {
		n += round(max(p.Puts[i].Size, 1))
	}
	for _, path := range p.old {
		if e, ok := s.Plain.Get(path); ok && !s.hasObject(e.Digest) {
			n += round(e.Size + 64)
		}
	}
	for i := range p.Next.Overrides {
		if d := p.Next.Overrides[i].Default; d != nil && d.Digest != (tree.Digest{}) &&
			!s.hasObject(d.Digest) {
			n += round(d.Size + 64)
		}
	}
	text, err := p.Next.Encode()
	if err != nil {
		return 0, err
	}
	return n + 3*round(int64(len(text))) + 2*round(int64(len(p.Puts)+len(p.Steps))*400+1) + 2*block, nil
}
