package tree

import (
	"errors"
	"runtime"

	"cfgd/internal/dirfd"
)

// branchDepth is how deep below the root directories may be given to another goroutine.
const branchDepth = 3

// hands are the goroutines that may work on a scan at once; nil is one alone.
type hands chan struct{}

// newHands are as many as the machine has cores. The scan's own goroutine has one already.
func newHands() hands {
	n := min(runtime.NumCPU(), 8)
	if n < 2 {
		return nil
	}
	h := make(hands, n)
	for range n - 1 {
		h.give()
	}
	return h
}

func (h hands) give() { h <- struct{}{} }

// take reports whether a hand was free.
func (h hands) take() bool {
	select {
	case <-h:
		return true
	default: // also of nil
		return false
	}
}

// branch is a directory's subtree that another goroutine scans.
type branch struct {
	*scanner
	at  int // where its entries belong in those of the scanner that made it
	err error
}

// fork scans below an open directory beside the scanner, and closes it. A hand must have been taken.
func (s *scanner) fork(d *dirfd.Dir, path string, depth int) {
	b := &branch{at: len(s.tree.Entries)}
	b.scanner = &scanner{ScanOptions: s.ScanOptions, ctx: s.ctx, began: s.began, hands: s.hands}
	b.tree = &Tree{dev: s.tree.dev, rootID: s.tree.rootID, NoXattrs: s.tree.NoXattrs}
	s.branches = append(s.branches, b)
	s.wait.Go(func() {
		defer d.Close()
		b.err = b.dir(d, path, depth, true, false)
		b.err = errors.Join(b.err, b.join())
	})
}

// join ends the scanner's own work, waits for its branches and puts what they found in its place.
func (s *scanner) join() error {
	if s.hands == nil {
		return nil
	}
	s.hands.give()
	s.wait.Wait()
	n := len(s.tree.Entries)
	for _, b := range s.branches {
		n += len(b.tree.Entries)
	}
	all := make([]Entry, 0, n) // of just the size: it may be kept for long
	var errs []error
	from := 0
	for _, b := range s.branches {
		all = append(append(all, s.tree.Entries[from:b.at]...), b.tree.Entries...)
		from = b.at
		s.tree.Skipped = append(s.tree.Skipped, b.tree.Skipped...)
		s.tree.NoXattrs = s.tree.NoXattrs || b.tree.NoXattrs
		errs = append(errs, b.err)
	}
	s.tree.Entries = append(all, s.tree.Entries[from:]...)
	return errors.Join(errs...)
}
