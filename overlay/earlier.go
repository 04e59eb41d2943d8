package overlay

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"cfgd/internal/dirfd"
	"cfgd/internal/hostfile"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// A live tree of an earlier start may be seen again: it stayed mounted when its jail stopped, the next start
// mounted the jail's root over it, and that has been unmounted since. cfg holds newer state by then. Such a
// tree is never taken over and never saved, whoever asks: the daemon, a save, a start or a stop.

// ErrEarlier says that live is such a tree. It is an ErrNotPopulated.
var ErrEarlier = fmt.Errorf("%w: of an earlier start", ErrNotPopulated)

// EarlierError is an ErrEarlier that knows the tree.
type EarlierError struct {
	Record *Record // of the tree
	words  string
}

func (e *EarlierError) Error() string { return e.words }
func (e *EarlierError) Unwrap() error { return ErrEarlier }

func (o *Overlay) earlierError(r *Record, how string) *EarlierError {
	return &EarlierError{r, fmt.Sprintf("%v: %s holds the /etc of an earlier start%s: cfg has newer state, and this is not saved;"+
		" cfgd jail cleanup %s puts it in an archive", ErrNotPopulated, o.Target.Live, how, o.Target.Name)}
}

// hiddenRecord is where the record of a hidden tree is kept: in /var/run, as the tree does not outlive the
// machine either.
func (o *Overlay) hiddenRecord(identity string) string {
	sum := sha256.Sum256([]byte(identity))
	return filepath.Join(o.RunDir, "hidden", fmt.Sprintf("%s.%.6x.json", o.Target.Name, sum))
}

// ErrNotKept says that the record of a hidden tree could not be kept: the target's own record, which is the
// only other one, must stay then.
var ErrNotKept = errors.New("its record can't be kept")

// KeepHidden keeps the record of a tree that is hidden, so that it is known when it is seen again. An error is
// ErrNotKept.
func (o *Overlay) KeepHidden(r *Record) error {
	b, err := json.Marshal(r)
	if err == nil {
		err = hostfile.Write(o.hiddenRecord(r.Identity), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotKept, err)
	}
	return nil
}

// DropHidden forgets a tree that was hidden.
func (o *Overlay) DropHidden(identity string) error { return hostfile.Remove(o.hiddenRecord(identity)) }

// hidden is an *EarlierError where the tree of this identity was hidden. A record of it that can't be read
// says so by its name.
func (o *Overlay) hidden(identity string) error {
	b, err := os.ReadFile(o.hiddenRecord(identity))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var r Record
	if json.Unmarshal(b, &r) != nil || r.Identity != identity {
		r = Record{Identity: identity, State: Populated, BasePath: o.Target.Base, BaseID: o.Target.BaseID,
			Memory: string(o.Target.Memory)}
	}
	return o.earlierError(&r, "")
}

// Earlier is an ErrEarlier where live is the tree of an earlier start, nil where it is not or is not there.
func (o *Overlay) Earlier() error {
	if err := o.notPopulated(); errors.Is(err, ErrEarlier) {
		return err
	}
	return nil
}

// older finds out whether a live tree without a record is what an older generation made: most paths in which
// that generation differs from the present one are as they were then, and at least one is a file with the
// content and the time of then. Somebody who writes such a file anew gives it a time of its own, and what
// copies cfg as it is now copies none of it. A match is kept as a hidden tree, so that all know it.
//
// The host is left out: rc.initdiskless(8) populates its /etc anew at each start of the machine.
func (o *Overlay) older(ctx context.Context, s *store.Store, live *dirfd.Dir, base *store.Base, t *tree.Tree) error {
	if o.Target.Host() {
		return nil
	}
	numbers, err := s.Numbers()
	if err != nil {
		return err
	}
	for i := len(numbers) - 1; i >= 0; i-- {
		if err := ctx.Err(); err != nil {
			return err
		}
		m, err := s.Generation(numbers[i])
		if err != nil || !madeBy(base.Tree, t, m, s.Manifest) {
			continue // one that can't be read tells nothing
		}
		id, err := live.Identity()
		if err != nil {
			return err
		}
		r := &Record{Identity: id, State: Populated, BasePath: o.Target.Base, BaseID: base.ID, Generation: m.Generation,
			Time: o.now().UTC(), Memory: string(o.Target.Memory)}
		return errors.Join(o.earlierError(r, fmt.Sprintf(", as generation %d had it", m.Generation)), o.KeepHidden(r))
	}
	return nil
}

// madeBy reports whether an older generation explains a live tree better than the present one does.
func madeBy(base, live *tree.Tree, older, now *store.Manifest) bool {
	certain, was, all := false, 0, 0
	for _, p := range differing(older, now) {
		if now.Holds(p) || now.TakesOut(p) { // a plain copy of base and cfg has what was removed
			continue
		}
		then, present := savedEntry(base, older, p), savedEntry(base, now, p)
		if sameEntry(then, present) || then != nil && then.Kind == dirfd.KindDir {
			continue
		}
		all++
		if e, _ := live.Get(p); sameEntry(then, e) {
			was++
			certain = certain || e != nil && e.Kind == dirfd.KindFile && e.MTime == then.MTime
		}
	}
	return certain && 2*was > all
}

// differing are the paths that one of two generations overrides.
func differing(a, b *store.Manifest) []string {
	seen := map[string]bool{}
	var out []string
	for _, m := range []*store.Manifest{a, b} {
		for i := range m.Overrides {
			if p := m.Overrides[i].Path; !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	return out
}

// savedEntry is what a generation's saved tree has at a path, nil for nothing.
func savedEntry(base *tree.Tree, m *store.Manifest, path string) *tree.Entry {
	if o, ok := m.Override(path); ok {
		return &o.Entry
	}
	if m.TakesOut(path) {
		return nil
	}
	e, _ := base.Get(path)
	return e
}

func sameEntry(a, b *tree.Entry) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.SameContent(b)
}
