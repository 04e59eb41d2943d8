package tree

import (
	"errors"
	"runtime"

	"cfgd/internal/dirfd"
)

// subscanDepth is how many levels below the root a directory may be to get a goroutine of its own.
const subscanDepth = 3

// semaphore bounds how many goroutines work on one scan. A nil semaphore allows the first one alone.
type semaphore chan struct{}

// newSemaphore allows one goroutine for each core, up to 8. The scan's own goroutine holds one place.
func newSemaphore() semaphore {
	n := min(runtime.NumCPU(), 8)
	if n < 2 {
		return nil
	}
	s := make(semaphore, n)
	for range n - 1 {
		s.release()
	}
	return s
}

func (s semaphore) release() { s <- struct{}{} }

// tryAcquire reports whether a place was free, and takes it.
func (s semaphore) tryAcquire() bool {
	select {
	case <-s:
		return true
	default: // a nil semaphore ends here too
		return false
	}
}

// subscan is the scan of one directory's subtree by another goroutine.
type subscan struct {
	*scanner
	at  int // the index in the parent scanner's entries where its entries belong
	err error
}

// startSubscan scans below an open directory in another goroutine, and closes the directory. The caller has
// acquired a place.
func (s *scanner) startSubscan(d *dirfd.Dir, path string, depth int) {
	b := &subscan{at: len(s.tree.Entries)}
	b.scanner = &scanner{ScanOptions: s.ScanOptions, ctx: s.ctx, began: s.began, semaphore: s.semaphore}
	b.tree = &Tree{dev: s.tree.dev, rootID: s.tree.rootID, NoXattrs: s.tree.NoXattrs}
	s.subscans = append(s.subscans, b)
	s.wait.Go(func() {
		defer d.Close()
		b.err = b.dir(d, path, depth, true, false)
		b.err = errors.Join(b.err, b.join())
	})
}

// join releases the scanner's place, waits for its subscans and inserts what they found.
func (s *scanner) join() error {
	if s.semaphore == nil {
		return nil
	}
	s.semaphore.release()
	s.wait.Wait()
	n := len(s.tree.Entries)
	for _, b := range s.subscans {
		n += len(b.tree.Entries)
	}
	all := make([]Entry, 0, n) // exactly this long, because the tree may be kept for long
	var errs []error
	from := 0
	for _, b := range s.subscans {
		all = append(append(all, s.tree.Entries[from:b.at]...), b.tree.Entries...)
		from = b.at
		s.tree.Skipped = append(s.tree.Skipped, b.tree.Skipped...)
		s.tree.NoXattrs = s.tree.NoXattrs || b.tree.NoXattrs
		errs = append(errs, b.err)
	}
	s.tree.Entries = append(all, s.tree.Entries[from:]...)
	return errors.Join(errs...)
}
