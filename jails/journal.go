package jails

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/flock"
	"cfgd/internal/hostfile"
)

// journal is the record of a switch that has begun.
type journal struct {
	Jail string `json:"jail"`
	To   string `json:"to"`
	journalFile
	More    []journalFile `json:"more,omitempty"` // of a jail with several fstabs, the others
	Restart bool          `json:"restart"`
	Time    time.Time     `json:"time"`
}

// journalFile is an fstab before and after a switch.
type journalFile struct {
	Fstab string `json:"fstab"`
	Old   []byte `json:"old"`
	New   []byte `json:"new"`
}

// newJournal returns the journal of a switch.
func newJournal(w *Switch, now time.Time) journal {
	var files []journalFile
	for _, e := range w.Edits {
		files = append(files, journalFile{e.File, e.Old, e.New})
	}
	return journal{w.Target.Name, w.To, files[0], files[1:], w.Restart, now.UTC()}
}

// files returns all fstabs of a switch.
func (j *journal) files() []journalFile { return append([]journalFile{j.journalFile}, j.More...) }

const switchDir = "/var/db/cfgd/switch"

func (s *Switcher) journalPath(name string) string {
	return filepath.Join(s.Model.Path(switchDir), name+".json")
}

// begin writes the journal and fsyncs it.
func (s *Switcher) begin(j journal) error {
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return hostfile.Write(s.journalPath(j.Jail), append(b, '\n'), 0o600)
}

func (s *Switcher) end(name string) error { return hostfile.Remove(s.journalPath(name)) }

// Recovered is the result of recovering an interrupted switch.
type Recovered struct {
	Jail, To string
	Finished bool // else undone
	Err      error
}

// begun returns the jails with a journal of a switch, whether its process runs or has ended.
func begun(m *config.Model) ([]string, error) {
	names, err := hostfile.Names(m.Path(switchDir), ".json")
	for i, name := range names {
		names[i] = strings.TrimSuffix(name, ".json")
	}
	return names, err
}

// Interrupted returns the jails with a journal of a switch whose process has ended.
func Interrupted(m *config.Model) ([]string, error) {
	all, err := begun(m)
	var jails []string
	for _, jail := range all {
		if unlock, err := exclusive(context.Background(), m, jail, 0); err == nil {
			unlock()
			jails = append(jails, jail)
		}
	}
	return jails, err
}

// Recover finishes or undoes the interrupted switches, except those whose process still runs. The fstabs
// decide: if all have the old text nothing was changed. If one has the new text, the others get theirs, all
// are saved to the host's cfg, and a jail that was to be restarted and does not run is started on them. If
// one has neither text, none is changed.
func (s *Switcher) Recover(ctx context.Context) ([]Recovered, error) {
	jails, err := begun(s.Model)
	if err != nil {
		return nil, err
	}
	var all []Recovered
	for _, jail := range jails {
		r, err := s.recoverJail(ctx, jail)
		if err != nil {
			return all, err
		}
		if r != nil {
			all = append(all, *r)
		}
	}
	return all, nil
}

// recoverJail recovers one jail while it holds the jail's lock. It returns nil if another process has the
// lock or has recovered it already.
func (s *Switcher) recoverJail(ctx context.Context, jail string) (*Recovered, error) {
	unlock, err := exclusive(ctx, s.Model, jail, 0)
	if errors.Is(err, flock.ErrHeld) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer unlock()
	name := s.journalPath(jail)
	b, err := hostfile.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var j journal
	if err := json.Unmarshal(b, &j); err != nil || j.Jail != jail {
		return nil, fmt.Errorf("%s: no journal of a switch (%v); look at the jail's fstab and remove it",
			name, err)
	}
	r := s.recover(ctx, j)
	return &r, nil
}

func (s *Switcher) recover(ctx context.Context, j journal) Recovered {
	r := Recovered{Jail: j.Jail, To: j.To}
	for _, f := range j.files() {
		now, err := hostfile.ReadFile(s.Model.Path(f.Fstab))
		switch {
		case err != nil:
			r.Err = err
			return r
		case bytes.Equal(now, f.Old): // or both, of one that named the snapshot already
		case bytes.Equal(now, f.New):
			r.Finished = true
		default:
			r.Err = fmt.Errorf("%s is neither as it was nor as it was to be: look at it, then remove %s",
				f.Fstab, s.journalPath(j.Jail))
			return r
		}
	}
	if r.Finished {
		r.Err = s.writeFstabs(ctx, j.files())
	}
	t := s.Model.Target(j.Jail)
	if r.Finished && r.Err == nil && len(j.More) > 0 { // the model may be of a time with both snapshots
		m, err := s.Reload()
		if err != nil {
			r.Err = err
			return r
		}
		t = m.Target(j.Jail)
	}
	if r.Err == nil && j.Restart && t != nil && !s.Jails.Runs(ctx, t) {
		r.Err = s.Jails.Start(ctx, t)
	}
	if r.Err == nil {
		r.Err = s.end(j.Jail)
	}
	return r
}
