package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

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
	need, err := need(s, p)
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
		err = fmt.Errorf("%w; nothing was saved", lacksRoom(need, space))
	}
	return err
}

func lacksRoom(need uint64, space dirfd.Space) error {
	return fmt.Errorf("cfg: %w: the save needs %d KiB and %d KiB are free", ErrNoSpace, (need+1023)/1024,
		space.Free/1024)
}

// Fits returns ErrNoSpace if a plan has no room in cfg, even without history. It changes nothing.
func (s *Store) Fits(p *Plan) error {
	need, err := need(s, p)
	if err != nil {
		return err
	}
	space, err := s.Cfg.Space()
	if err != nil || space.Free >= need {
		return err
	}
	h, err := historyOf(s)
	if err == nil && space.Free+uint64(h.bytes) < need {
		return lacksRoom(need, space)
	}
	return err
}

// need returns an upper bound, in bytes, of what a commit writes: content, the history of what it replaces,
// defaults, manifests and journal.
func need(s *Store, p *Plan) (uint64, error) {
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
		if e, ok := s.Plain.Get(path); ok && !s.objectDir().has(e.Digest) {
			n += round(e.Size + 64)
		}
	}
	for i := range p.Next.Overrides {
		if d := p.Next.Overrides[i].Default; d != nil && d.Digest != (tree.Digest{}) &&
			!s.objectDir().has(d.Digest) {
			n += round(d.Size + 64)
		}
	}
	text, err := p.Next.Encode()
	if err != nil {
		return 0, err
	}
	return n + 3*round(int64(len(text))) + 2*round(int64(len(p.Puts)+len(p.Steps))*400+1) + 2*block, nil
}

// history is what the store keeps beside the current generation.
type history struct {
	numbers []int // oldest first
	bytes   int64 // bytes of objects/ and generations/
}

func historyOf(s *Store) (history, error) {
	var h history
	numbers, err := s.Numbers()
	if err != nil {
		return h, err
	}
	h.numbers = slices.DeleteFunc(numbers, func(n int) bool { return n >= s.Manifest.Generation })
	for _, dir := range []string{objectsDir, generationsDir} {
		err := s.within(dir, func(d *dirfd.Dir) error {
			names, err := d.Names()
			for _, name := range names {
				if st, err := d.Stat(name); err == nil {
					h.bytes += max(st.Size, st.Blocks*512)
				}
			}
			return err
		})
		if err != nil {
			return h, err
		}
	}
	return h, nil
}

// Prune drops the oldest generations until their number and bytes are within bounds and enough returns true.
// The current generation and the defaults under its overrides always stay. Generations kept for the way back
// to an earlier base do not count. They go last, and only if nothing else is left to drop.
func (s *Store) Prune(ctx context.Context, enough func() bool) error {
	h, err := historyOf(s)
	if err != nil {
		return err
	}
	dropped := 0
	for len(h.numbers) > 0 && ctx.Err() == nil {
		loose := slices.DeleteFunc(slices.Clone(h.numbers), s.Manifest.wayBack)
		if len(loose) < max(s.keepGenerations, 1) && (s.keepBytes == 0 || h.bytes <= s.keepBytes) &&
			enough() {
			break
		}
		// Drop a few at a time, because finding the objects in use reads every kept manifest.
		if len(loose) == 0 {
			loose = h.numbers
		}
		n := 1
		if h.bytes > s.keepBytes || !enough() {
			n = (len(loose) + 7) / 8
		}
		if err := s.generationDir().drop(loose[:n]); err != nil {
			return err
		}
		dropped += n
		if h.bytes > s.keepBytes || !enough() || loose[0]%16 == 0 {
			if err := collect(s); err != nil {
				return err
			}
		}
		if h, err = historyOf(s); err != nil {
			return err
		}
	}
	if dropped == 0 {
		return nil
	}
	return s.generationDir().sync()
}

// collect removes the objects that no kept generation refers to.
func collect(s *Store) error {
	used, err := usedObjects(s)
	if err != nil {
		return err
	}
	return s.within(objectsDir, func(d *dirfd.Dir) error {
		names, err := d.Names()
		if err != nil {
			return err
		}
		for _, name := range names {
			hex, ok := strings.CutSuffix(name, objectSuffix)
			if dg, err := tree.ParseDigest(hex); ok && err == nil && used[dg] {
				continue
			}
			if err := d.RemoveAll(name); err != nil {
				return err
			}
		}
		return nil
	})
}

func usedObjects(s *Store) (map[tree.Digest]bool, error) {
	used := map[tree.Digest]bool{}
	mark := func(m *Manifest) {
		for _, e := range m.refers() {
			used[e.Digest] = true
		}
	}
	numbers, err := s.Numbers()
	if err != nil {
		return nil, err
	}
	for _, n := range numbers {
		m, err := s.Generation(n)
		if err != nil {
			s.notice("generation %d: %v", n, err)
			continue
		}
		mark(m)
	}
	mark(s.Manifest)
	return used, nil
}
