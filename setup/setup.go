// Package setup writes into a machine's rc.conf, jail.conf and fstab what cfgd needs, and removes exactly
// that again. Package config says what is missing, and whether the edits settled it (Model.Missing,
// Model.Settled).
//
// What always holds: an edit is of one line, and every other byte stays. After the edits the configuration
// is read again. All files are restored unless every problem that was to be settled is gone, no new one
// came, and no other jail is defined differently. What was done is recorded in /var/db/cfgd/setup.json
// before the first file is changed.
package setup

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/internal/hostfile"
)

// Setup sets a machine up. Reload reads the configuration again.
type Setup struct {
	Model  *config.Model
	Reload func() (*config.Model, error)
}

// record returns the path of the record of what was done.
func (s *Setup) record() string { return s.Model.Path("/var/db/cfgd/setup.json") }

// Done reads the record of what was done, which is empty if nothing was.
func (s *Setup) Done() ([]conffile.Change, error) {
	b, err := hostfile.ReadFile(s.record())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []conffile.Change
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("%s: %w; what it says was added has to be taken out by hand", s.record(), err)
	}
	return all, nil
}

func (s *Setup) write(all []conffile.Change) error {
	if len(all) == 0 {
		return hostfile.Remove(s.record())
	}
	b, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	return hostfile.Write(s.record(), append(b, '\n'), 0o600)
}

// Do makes all edits or none, and returns the files that it changed. It holds the lock of the host's
// files.
func (s *Setup) Do(ctx context.Context, steps []config.Step) ([]string, error) {
	unlock, err := hostfile.Lock(ctx, s.Model.RunDir())
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := s.current(steps); err != nil {
		return nil, err
	}
	before, err := s.Done()
	if err != nil {
		return nil, err
	}
	e, err := s.compose(steps)
	if err != nil {
		return nil, err
	}
	if err := s.write(slices.Concat(before, e.changes)); err != nil {
		return nil, err
	}
	err = s.replace(e.after)
	if err == nil {
		err = s.verify(steps)
	}
	if err != nil {
		return nil, errors.Join(err, s.restore(e.before), s.write(before))
	}
	return slices.Sorted(maps.Keys(e.after)), nil
}

// edited is what a plan makes of the files, by their names.
type edited struct {
	before, after map[string][]byte // before is nil for a file that does not exist
	changes       []conffile.Change
}

// compose makes all edits in memory.
func (s *Setup) compose(steps []config.Step) (*edited, error) {
	e := &edited{before: map[string][]byte{}, after: map[string][]byte{}}
	for _, st := range ordered(steps) {
		if _, ok := e.after[st.File]; !ok {
			b, err := s.read(st.File)
			if err != nil {
				return nil, err
			}
			e.before[st.File], e.after[st.File] = b, b
		}
		text, change, err := st.Apply(e.after[st.File])
		if err != nil {
			return nil, err
		}
		e.after[st.File], e.changes = text, append(e.changes, change)
	}
	return e, nil
}

// current refuses steps that were planned from files that have changed since, because their line numbers
// may be wrong.
func (s *Setup) current(steps []config.Step) error {
	m, err := s.Reload()
	if err != nil {
		return err
	}
	now := m.Missing()
	for _, st := range steps {
		if !slices.Contains(now, st) {
			return fmt.Errorf("%s was changed after the plan was made; plan again", st.File)
		}
	}
	return nil
}

// ordered sorts the edits of a file from its end to its beginning, so that line numbers stay valid. Lines
// added at the end come last, in the order of the plan.
func ordered(steps []config.Step) []config.Step {
	out := slices.Clone(steps)
	slices.SortStableFunc(out, func(a, b config.Step) int {
		return cmp.Or(strings.Compare(a.File, b.File), b.Line-a.Line)
	})
	return out
}

// read returns the text of a file, nil if there is none.
func (s *Setup) read(name string) ([]byte, error) {
	b, err := hostfile.ReadFile(s.Model.Path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

func (s *Setup) replace(texts map[string][]byte) error {
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		if err := hostfile.Write(s.Model.Path(name), texts[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// restore restores files. A file that did not exist is removed.
func (s *Setup) restore(files map[string][]byte) error {
	var errs []error
	for name, b := range files {
		if b == nil {
			errs = append(errs, hostfile.Remove(s.Model.Path(name)))
			continue
		}
		errs = append(errs, hostfile.Replace(s.Model.Path(name), b))
	}
	return errors.Join(errs...)
}

// verify reads the configuration again.
func (s *Setup) verify(steps []config.Step) error {
	m, err := s.Reload()
	if err != nil {
		return fmt.Errorf("with the edits the configuration is none: %w", err)
	}
	return s.Model.Settled(m, steps)
}

// Remove removes what was added, and returns the files that it changed. Lines that somebody changed since
// are kept, and returned as well.
func (s *Setup) Remove(ctx context.Context) (files []string, left []conffile.Change, err error) {
	unlock, err := hostfile.Lock(ctx, s.Model.RunDir())
	if err != nil {
		return nil, nil, err
	}
	defer unlock()
	all, err := s.Done()
	if err != nil {
		return nil, nil, err
	}
	texts := map[string][]byte{}
	for _, d := range slices.Backward(all) {
		if _, ok := texts[d.File]; !ok {
			b, err := s.read(d.File)
			if err != nil {
				return nil, nil, err
			}
			texts[d.File] = b
		}
		text, ok := d.Undo(texts[d.File])
		if !ok {
			left = append(left, d)
			continue
		}
		texts[d.File] = text
	}
	if err := s.replace(texts); err != nil {
		return nil, nil, err
	}
	return slices.Sorted(maps.Keys(texts)), left, s.write(nil)
}
