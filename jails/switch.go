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
	"cfgd/internal/hostfile"
	"cfgd/internal/run"
	"cfgd/merge"
	"cfgd/overlay"
)

// Switch is a jail's way to another snapshot of its prototype: a plan, which changed nothing yet.
type Switch struct {
	Target   *config.Target
	From     []string // the snapshots that its fstab names
	To       string
	Old, New []byte // its fstab
	Merge    *merge.Result
	Restart  bool // asked for, and the jail runs: one that somebody stopped is not started
}

// Already reports whether the fstab names that snapshot and no other.
func (w *Switch) Already() bool { return bytes.Equal(w.Old, w.New) }

// Switcher switches jails to other snapshots. The order, for each jail: the journal,
// /var/db/cfgd/switch/NAME.json; the fstab, replaced whole by a rename; the host's cfg, where the host's
// /etc is in memory as well; with a restart the stop, the start, and a look whether it came up; last the
// journal goes. A switch that was killed is finished or undone by the next one, by what the fstab says
// then.
type Switcher struct {
	Model *config.Model
	// Overlay opens a target's trees; Reload reads the configuration anew, after an fstab was changed.
	Overlay func(m *config.Model, t *config.Target) *overlay.Overlay
	Reload  func() (*config.Model, error)
	// SaveHost brings a file of the host's etc to the host's cfg. Nil where the host's /etc is on a disk.
	SaveHost func(ctx context.Context, path string) error
	Jails    Jails
	Now      func() time.Time
}

// Jails starts and stops jails.
type Jails interface {
	Stop(ctx context.Context, t *config.Target) error
	Start(ctx context.Context, t *config.Target) error
	// Up waits until the jail is well, and says what is not after a while.
	Up(ctx context.Context, t *config.Target) error
	Runs(ctx context.Context, t *config.Target) bool
	// Plan is what Stop, Start and Up run.
	Plan(t *config.Target) []run.Cmd
}

// ErrNoSnapshot says that a jail's base is no snapshot, so that it cannot be switched to another.
var ErrNoSnapshot = errors.New("no snapshot")

// Plan finds out what a switch would do. Nothing is changed.
func (s *Switcher) Plan(ctx context.Context, t *config.Target, to string, restart bool) (*Switch, error) {
	snap, ok := config.ParseSnapshot(t.Base)
	if !ok {
		return nil, fmt.Errorf("base %s: %w of a prototype; a switch needs one", t.Base, ErrNoSnapshot)
	}
	old, err := hostfile.ReadFile(s.Model.Path(t.Fstab))
	if err != nil {
		return nil, err
	}
	changed, err := config.SwitchFstab(t.Fstab, old, snap.Prototype(), to)
	if err != nil {
		return nil, err
	}
	if err := s.there(t.Fstab, changed.Data, to); err != nil {
		return nil, err
	}
	w := &Switch{
		Target:  t,
		From:    changed.From,
		To:      to,
		Old:     old,
		New:     changed.Data,
		Restart: restart && s.Jails.Runs(ctx, t),
	}
	next := snap.At(to)
	w.Merge, err = s.Overlay(s.Model, t).PlanMerge(ctx, overlay.BaseRef{Path: next.String(), ID: next.ID()})
	return w, err
}

// there sees that every snapshot that the new fstab names exists.
func (s *Switcher) there(file string, data []byte, to string) error {
	entries, err := config.ParseJailFstab(file, data)
	if err != nil {
		return err
	}
	for _, e := range entries {
		snap, ok := config.ParseSnapshot(e.Source)
		if !ok || snap.Name != to || !filepath.IsAbs(e.Source) {
			continue
		}
		if err := overlay.StatSnapshot(s.Model.Path(e.Source)); err != nil {
			return fmt.Errorf("%s:%d: %w", file, e.Line, err)
		}
	}
	return nil
}

// journal is a switch that was begun.
type journal struct {
	Jail    string    `json:"jail"`
	To      string    `json:"to"`
	Fstab   string    `json:"fstab"`
	Old     []byte    `json:"old"`
	New     []byte    `json:"new"`
	Restart bool      `json:"restart"`
	Time    time.Time `json:"time"`
}

const switchDir = "/var/db/cfgd/switch"

func (s *Switcher) journalPath(name string) string {
	return filepath.Join(s.Model.Path(switchDir), name+".json")
}

// Do carries a plan out. Whatever fails after the fstab was replaced puts the old one back, and a jail
// that was stopped is started on it. Another switch of the same jail waits, and then finds its plan out
// of date.
func (s *Switcher) Do(ctx context.Context, w *Switch) error {
	unlock, err := Exclusive(ctx, s.Model, w.Target.Name)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := hostfile.ReadFile(s.Model.Path(w.Target.Fstab))
	if err != nil {
		return err
	}
	if !bytes.Equal(now, w.Old) {
		return errReplan(w.Target.Fstab)
	}
	j := journal{w.Target.Name, w.To, w.Target.Fstab, w.Old, w.New, w.Restart, s.Now().UTC()}
	if err := s.begin(j); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if w.Restart {
		if err := s.Jails.Stop(ctx, w.Target); err != nil {
			return s.notStopped(context.WithoutCancel(ctx), w, fmt.Errorf("stop: %w", err))
		}
	}
	err = s.writeFstab(ctx, w.Target.Fstab, w.Old, w.New)
	if err == nil && w.Restart {
		err = s.start(ctx, w.Target.Name)
	}
	if err != nil {
		return s.back(context.WithoutCancel(ctx), w, err)
	}
	return s.end(w.Target.Name)
}

// notStopped leaves a jail that does not stop as it is, or starts it again where it is half stopped.
func (s *Switcher) notStopped(ctx context.Context, w *Switch, why error) error {
	if !s.Jails.Runs(ctx, w.Target) {
		if err := s.Jails.Start(ctx, w.Target); err != nil {
			return fmt.Errorf("%w; and it does not start again: %w", why, err)
		}
	}
	return errors.Join(fmt.Errorf("%w; nothing was switched", why), s.end(w.Target.Name))
}

// start starts a jail as the configuration now says, and waits until it is well.
func (s *Switcher) start(ctx context.Context, name string) error {
	m, err := s.Reload()
	if err != nil {
		return err
	}
	t := m.Target(name)
	if t == nil {
		return fmt.Errorf("%s is no target any more", name)
	}
	if err := s.Jails.Start(ctx, t); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := s.Jails.Up(ctx, t); err != nil {
		return fmt.Errorf("started, and not well: %w", err)
	}
	return nil
}

// back undoes a switch that failed. The error tells what failed, and whether the jail is as it was.
func (s *Switcher) back(ctx context.Context, w *Switch, why error) error {
	var stopped error
	if w.Restart { // it may run on the new snapshot, well or not
		stopped = s.Jails.Stop(ctx, w.Target)
	}
	err := s.writeFstab(ctx, w.Target.Fstab, w.New, w.Old)
	if err == nil && w.Restart {
		if err = s.start(ctx, w.Target.Name); err != nil {
			err = errors.Join(stopped, err)
		}
	}
	if err != nil {
		return fmt.Errorf("%w; and it could not be put back: %w; the old fstab is in %s", why, err,
			s.journalPath(w.Target.Name))
	}
	return errors.Join(fmt.Errorf("%w; %s is on snapshot %s again", why, w.Target.Name,
		strings.Join(w.From, " and ")), s.end(w.Target.Name))
}

func errReplan(fstab string) error {
	return fmt.Errorf("%s was changed after the plan was made; plan again", fstab)
}

// writeFstab puts one text in the place of another in a jail's fstab, which has to hold either; then the
// host's cfg has it too.
func (s *Switcher) writeFstab(ctx context.Context, file string, from, to []byte) error {
	err := hostfile.Edit(ctx, s.Model.RunDir(), s.Model.Path(file), func(now []byte) ([]byte, error) {
		if !bytes.Equal(now, from) && !bytes.Equal(now, to) {
			return nil, errReplan(file)
		}
		return to, nil
	})
	if err != nil {
		return err
	}
	rel, ok := strings.CutPrefix(file, "/etc/")
	if s.SaveHost == nil || !ok {
		return nil
	}
	if err := s.SaveHost(ctx, rel); err != nil {
		return fmt.Errorf("save %s to the host's cfg: %w", file, err)
	}
	return nil
}

// begin writes the journal, durably.
func (s *Switcher) begin(j journal) error {
	b, err := json.Marshal(j)
	if err != nil {
		return err
	}
	return hostfile.Write(s.journalPath(j.Jail), append(b, '\n'), 0o600)
}

func (s *Switcher) end(name string) error { return hostfile.Remove(s.journalPath(name)) }

// Recovered is what became of a switch that was interrupted.
type Recovered struct {
	Jail, To string
	Finished bool // else undone
	Err      error
}

// Interrupted lists the jails of which a switch left a journal, and is no longer at work.
func Interrupted(m *config.Model) ([]string, error) {
	names, err := hostfile.Names(m.Path(switchDir), ".json")
	var jails []string
	for _, name := range names {
		jail := strings.TrimSuffix(name, ".json")
		if unlock, err := exclusiveNow(m, jail); err == nil {
			unlock()
			jails = append(jails, jail)
		}
	}
	return jails, err
}

// Recover finishes or undoes the switches that were interrupted; one whose process lives is left to it.
// What the fstab says decides: the old text means that nothing was changed; the new one is saved to the
// host's cfg, and a jail that was to be restarted and does not run is started on it.
func (s *Switcher) Recover(ctx context.Context) ([]Recovered, error) {
	jails, err := Interrupted(s.Model)
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

// recoverJail recovers one, while it has the jail's lock. It returns nil where another process has it, or
// was faster.
func (s *Switcher) recoverJail(ctx context.Context, jail string) (*Recovered, error) {
	unlock, err := exclusiveNow(s.Model, jail)
	if errors.Is(err, ErrBusy) {
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
	now, err := hostfile.ReadFile(s.Model.Path(j.Fstab))
	switch {
	case err != nil:
		r.Err = err
		return r
	case bytes.Equal(now, j.New):
		r.Finished, r.Err = true, s.writeFstab(ctx, j.Fstab, j.New, j.New)
	case !bytes.Equal(now, j.Old):
		r.Err = fmt.Errorf("%s is neither as it was nor as it was to be: look at it, then remove %s", j.Fstab,
			s.journalPath(j.Jail))
	}
	if t := s.Model.Target(j.Jail); r.Err == nil && j.Restart && t != nil && !s.Jails.Runs(ctx, t) {
		r.Err = s.Jails.Start(ctx, t)
	}
	if r.Err == nil {
		r.Err = s.end(j.Jail)
	}
	return r
}
