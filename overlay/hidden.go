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

// A live tree of an earlier start may appear again: it stayed mounted when its jail stopped, the next start
// mounted the jail's root over it, and that was unmounted since. By then cfg holds newer state. Such a tree
// is never taken over and never saved, by the daemon, a save, a start or a stop.

// ErrEarlier says that live is such a tree. It wraps ErrNotPopulated.
var ErrEarlier = fmt.Errorf("%w: of an earlier start", ErrNotPopulated)

// EarlierError is an ErrEarlier with the tree's record.
type EarlierError struct {
	Record *Record // of the earlier tree
	words  string
}

func (e *EarlierError) Error() string { return e.words }
func (e *EarlierError) Unwrap() error { return ErrEarlier }

func (o *Overlay) earlierError(r *Record, how string) *EarlierError {
	why := fmt.Sprintf(
		"%v: %s holds the /etc of an earlier start%s: cfg has newer state, and this is not saved;"+
			" cfgd jail cleanup %s puts it in an archive",
		ErrNotPopulated,
		o.Target.Live,
		how,
		o.Target.Name,
	)
	return &EarlierError{r, why}
}

// hiddenRecord returns the file for the record of a hidden tree. It is in /var/run, because the tree does not
// outlive the machine's restart either.
func (o *Overlay) hiddenRecord(identity string) string {
	sum := sha256.Sum256([]byte(identity))
	return filepath.Join(o.RunDir, "hidden", fmt.Sprintf("%s.%.6x.json", o.Target.Name, sum))
}

// ErrNotKept says that the record of a hidden tree could not be written. The target's own record is then the
// only one and must stay.
var ErrNotKept = errors.New("its record can't be kept")

// KeepHidden writes the record of a tree that is hidden, so that it is recognized when it appears again. Its
// error wraps ErrNotKept.
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

// DropHidden removes the record of a hidden tree.
func (o *Overlay) DropHidden(identity string) error { return hostfile.Remove(o.hiddenRecord(identity)) }

// hidden returns an *EarlierError if the tree of this identity was hidden. If the record can't be read, the
// error has only its name.
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

// Earlier returns an ErrEarlier if live is the tree of an earlier start, else nil.
func (o *Overlay) Earlier() error {
	if err := o.notPopulated(); errors.Is(err, ErrEarlier) {
		return err
	}
	return nil
}

// older finds out whether a live tree without a record was made from an older generation. It is if most paths
// in which that generation differs from the present one are as they were then, and at least one is a file
// with the content and the time of then. Somebody who writes such a file again gives it a new time, and a
// copy of the present cfg holds none of these files. A match is recorded as a hidden tree.
//
// The host is left out: rc.initdiskless(8) populates its /etc again at each start of the machine.
func (o *Overlay) older(
	ctx context.Context, s *store.Store, live *dirfd.Dir, base *store.Base, t *tree.Tree,
) error {
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
			continue // a generation that can't be read proves nothing
		}
		id, err := live.Identity()
		if err != nil {
			return err
		}
		r := &Record{
			Identity:   id,
			State:      Populated,
			BasePath:   o.Target.Base,
			BaseID:     base.ID,
			Generation: m.Generation,
			Time:       o.now().UTC(),
			Memory:     string(o.Target.Memory),
		}
		return errors.Join(o.earlierError(r, fmt.Sprintf(", as generation %d had it", m.Generation)),
			o.KeepHidden(r))
	}
	return nil
}

// madeBy reports whether an older generation explains a live tree better than the present one.
func madeBy(base, live *tree.Tree, older, now *store.Manifest) bool {
	certain, was, all := false, 0, 0
	for _, p := range differing(older, now) {
		if now.Holds(p) || now.Removes(p) { // a plain copy of base and cfg still has what was removed
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

// differing lists the paths that one of two generations overrides and the other does not, or differently.
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

// savedEntry returns what a generation's saved tree has at a path, nil for nothing.
func savedEntry(base *tree.Tree, m *store.Manifest, path string) *tree.Entry {
	if o, ok := m.Override(path); ok {
		return &o.Entry
	}
	if m.Removes(path) {
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
