// Package setup adds to a machine's rc.conf, jail.conf and fstab what cfgd needs, and removes exactly
// that again.
//
// What always holds: a plan is a value, printed before anything is done. An edit is of one line, and
// every other byte stays. After the edits the configuration is read again. All files are restored unless
// every problem that was to be settled is gone, no new one came, and no other jail is defined
// differently. What was done is recorded in /var/db/cfgd/setup.json before the first file is changed.
package setup

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/internal/hostfile"
)

// Step is one edit, and why.
type Step struct {
	conffile.Edit
	Target string // the target or jail that it is about, "" for the machine
	Why    string
}

// Done is an edit that was made: a line that was added or replaced.
type Done struct {
	File string `json:"file"`
	Old  string `json:"old,omitempty"` // the whole line before; "" if there was none
	New  string `json:"new"`
}

// Setup sets a machine up.
type Setup struct {
	Model  *config.Model
	Reload func() (*config.Model, error)
}

const rcConf = "/etc/rc.conf"

// Plan returns the edits for what the machine lacks.
func (s *Setup) Plan() []Step {
	var all []Step
	for _, p := range s.Model.Problems {
		if p.Edit != (conffile.Edit{}) {
			all = append(all, Step{p.Edit, p.Target, p.Message})
		}
	}
	if !s.Model.Enabled && len(s.Model.Targets) > 0 {
		all = append(all, Step{
			conffile.Edit{File: rcConf, New: `cfgd_enable="YES"`}, "", "the daemon is not started at boot",
		})
	}
	return all
}

// record returns the path of the record of what was done.
func (s *Setup) record() string { return s.Model.Path("/var/db/cfgd/setup.json") }

// Done reads the record of what was done, which is empty if nothing was.
func (s *Setup) Done() ([]Done, error) {
	b, err := hostfile.ReadFile(s.record())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []Done
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("%s: %w; what it says was added has to be taken out by hand", s.record(), err)
	}
	return all, nil
}

func (s *Setup) write(all []Done) error {
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
func (s *Setup) Do(ctx context.Context, steps []Step) ([]string, error) {
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
	files := map[string][]byte{} // as they were
	texts := map[string][]byte{} // as they are to be
	done := before
	for _, st := range ordered(steps) {
		if _, ok := texts[st.File]; !ok {
			b, err := hostfile.ReadFile(s.Model.Path(st.File))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			files[st.File], texts[st.File] = b, b
		}
		text, d, err := apply(texts[st.File], st.Edit)
		if err != nil {
			return nil, err
		}
		texts[st.File], done = text, append(done, d)
	}
	if err := s.write(done); err != nil {
		return nil, err
	}
	err = s.replace(texts)
	if err == nil {
		err = s.verify(steps)
	}
	if err != nil {
		return nil, errors.Join(err, s.restore(files), s.write(before))
	}
	return sortedNames(texts), nil
}

// current refuses steps that were planned from files that have changed since, because their line numbers
// may be wrong.
func (s *Setup) current(steps []Step) error {
	m, err := s.Reload()
	if err != nil {
		return err
	}
	now := (&Setup{Model: m}).Plan()
	for _, st := range steps {
		if !slices.Contains(now, st) {
			return fmt.Errorf("%s was changed after the plan was made; plan again", st.File)
		}
	}
	return nil
}

// ordered sorts the edits of a file from its end to its beginning, so that line numbers stay valid. Lines
// added at the end come last, in the order of the plan.
func ordered(steps []Step) []Step {
	out := slices.Clone(steps)
	slices.SortStableFunc(out, func(a, b Step) int {
		switch {
		case a.File != b.File:
			return strings.Compare(a.File, b.File)
		case a.Line == 0 || b.Line == 0:
			return b.Line - a.Line
		}
		return b.Line - a.Line
	})
	return out
}

// apply makes one edit.
func apply(text []byte, e conffile.Edit) ([]byte, Done, error) {
	lines := slices.Collect(bytes.Lines(text))
	d := Done{File: e.File, New: e.New}
	at := len(lines)
	if e.Line > 0 {
		at = e.Line - 1
	}
	switch {
	case e.Line > len(lines):
		return nil, d, fmt.Errorf("%s:%d: no such line: the file was changed meanwhile", e.File, e.Line)
	case e.Old != "":
		old := strings.TrimSuffix(string(lines[at]), "\n")
		found := words(old, e.Old)
		if len(found) != 1 {
			return nil, d,
				fmt.Errorf("%s:%d: %q does not stand there as a word of its own, once; write %s in its "+
					"place by hand", e.File, e.Line, e.Old, e.New)
		}
		d.Old, d.New = old, old[:found[0]]+e.New+old[found[0]+len(e.Old):]
		lines[at] = []byte(d.New + "\n")
	case e.Line > 0:
		for at < len(lines) && !bytes.Contains(lines[at], []byte("{")) { // a block may open below its name
			at++
		}
		if at == len(lines) || bytes.Contains(lines[at], []byte("}")) {
			return nil, d, fmt.Errorf("%s:%d: the jail's block is not on lines of its own; write by hand: %s",
				e.File, e.Line, strings.TrimSpace(e.New))
		}
		lines = slices.Insert(lines, at+1, []byte(e.New+"\n"))
	default:
		if n := len(lines); n > 0 && !bytes.HasSuffix(lines[n-1], []byte("\n")) {
			lines[n-1] = append(slices.Clone(lines[n-1]), '\n')
		}
		lines = append(lines, []byte(e.New+"\n"))
	}
	return bytes.Join(lines, nil), d, nil
}

// words returns where a text occurs in a line without a part of a name, a path or a list next to it.
func words(line, text string) (at []int) {
	part := func(r byte) bool {
		return r == '_' || r == ',' || r == '/' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' ||
			r >= 'A' && r <= 'Z'
	}
	for i := 0; i+len(text) <= len(line); i++ {
		end := i + len(text)
		if line[i:end] == text && (i == 0 || !part(line[i-1])) && (end == len(line) || !part(line[end])) {
			at = append(at, i)
		}
	}
	return at
}

func (s *Setup) replace(texts map[string][]byte) error {
	for _, name := range sortedNames(texts) {
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
func (s *Setup) verify(steps []Step) error {
	m, err := s.Reload()
	if err != nil {
		return fmt.Errorf("with the edits the configuration is none: %w", err)
	}
	known := map[string]bool{}
	for _, p := range s.Model.Problems {
		known[p.Target+p.Message] = true
	}
	about := map[string]bool{}
	for _, st := range steps {
		about[st.Target] = true
	}
	for _, p := range m.Problems {
		for _, st := range steps {
			if p.Target == st.Target && p.Message == st.Why {
				return fmt.Errorf("the edit did not settle it: %s", p)
			}
		}
		if !known[p.Target+p.Message] && !about[p.Target] {
			return fmt.Errorf("the edits would bring another problem: %s", p)
		}
	}
	for _, t := range s.Model.Targets {
		if now := m.Target(t.Name); now == nil ||
			!about[t.Name] && !reflect.DeepEqual(now.Definition, t.Definition) {
			return fmt.Errorf("the edits would change %s as well", t.Name)
		}
	}
	return nil
}

// Remove removes what was added, and returns the files that it changed. Lines that somebody changed since
// are kept, and returned as well.
func (s *Setup) Remove(ctx context.Context) (files []string, left []Done, err error) {
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
			b, err := hostfile.ReadFile(s.Model.Path(d.File))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, nil, err
			}
			texts[d.File] = b
		}
		text, ok := takeOut(texts[d.File], d)
		if !ok {
			left = append(left, d)
			continue
		}
		texts[d.File] = text
	}
	if err := s.replace(texts); err != nil {
		return nil, nil, err
	}
	return sortedNames(texts), left, s.write(nil)
}

// takeOut undoes one edit: in the last line that is still as it was written.
func takeOut(text []byte, d Done) ([]byte, bool) {
	lines := slices.Collect(bytes.Lines(text))
	for i := range slices.Backward(lines) {
		if strings.TrimSuffix(string(lines[i]), "\n") != d.New {
			continue
		}
		if d.Old == "" {
			lines = slices.Delete(lines, i, i+1)
		} else {
			lines[i] = []byte(d.Old + "\n")
		}
		return bytes.Join(lines, nil), true
	}
	return nil, false
}

func sortedNames(m map[string][]byte) []string {
	var names []string
	for n := range m {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}
