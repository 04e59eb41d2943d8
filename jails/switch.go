package jails

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/hostfile"
	"cfgd/internal/run"
	"cfgd/merge"
	"cfgd/overlay"
)

// Switch is a plan to move a jail to another snapshot of its prototype. A plan changes nothing.
type Switch struct {
	Target  *config.Target
	From    []string // the snapshots that its fstabs name
	To      string
	Edits   []config.FstabEdit // of each of its fstabs that names a snapshot, changed or not
	Merge   *merge.Result
	Restart bool // asked for, and the jail runs: one that somebody stopped is not started

	base *config.Prototype // whose snapshots they are
}

// Already reports whether the fstabs name that snapshot and no other.
func (w *Switch) Already() bool {
	return !slices.ContainsFunc(w.Edits, func(e config.FstabEdit) bool { return len(e.Lines) > 0 })
}

// Switcher switches jails to other snapshots. The order, for each jail: write the journal,
// /var/db/cfgd/switch/NAME.json; replace each fstab whole by a rename; save it to the host's cfg, if the
// host's /etc is in memory as well; with a restart, stop and start the jail and check that it came up;
// remove the journal. The next switch finishes or undoes one that was killed, by what the fstabs then
// say.
type Switcher struct {
	Model *config.Model
	// Overlay opens a target's trees. Reload reads the configuration again after an fstab was changed.
	Overlay func(m *config.Model, t *config.Target) *overlay.Overlay
	Reload  func() (*config.Model, error)
	// SaveHost saves a file of the host's etc to the host's cfg. It is nil if the host's /etc is on a
	// disk.
	SaveHost func(ctx context.Context, path string) error
	Jails    Jails
	Now      func() time.Time
}

// Jails starts and stops jails.
type Jails interface {
	Stop(ctx context.Context, t *config.Target) error
	Start(ctx context.Context, t *config.Target) error
	// Up waits until the jail is up. After a time limit it returns an error that says what is not.
	Up(ctx context.Context, t *config.Target) error
	Runs(ctx context.Context, t *config.Target) bool
	// Plan returns the commands that Stop, Start and Up run.
	Plan(t *config.Target) []run.Cmd
}

// ErrNoSnapshot reports that a jail's base is no snapshot, so that the jail cannot be switched to
// another.
var ErrNoSnapshot = errors.New("no snapshot")

// Plan computes a switch. It changes nothing.
func (s *Switcher) Plan(ctx context.Context, t *config.Target, to string, restart bool) (*Switch, error) {
	snap, ok := config.ParseSnapshot(t.Base)
	if !ok {
		return nil, fmt.Errorf("base %s: %w of a prototype; a switch needs one", t.Base, ErrNoSnapshot)
	}
	changed, err := s.Model.SwitchTo(t, to)
	if err != nil {
		return nil, err
	}
	if err := editsExist(s.Model, changed.Edits, to); err != nil {
		return nil, err
	}
	w := &Switch{
		base:    s.Model.PrototypeOf(t.Base),
		Target:  t,
		From:    changed.From,
		To:      to,
		Edits:   changed.Edits,
		Restart: restart && s.Jails.Runs(ctx, t),
	}
	next := snap.At(to)
	w.Merge, err = s.Overlay(s.Model, t).PlanMerge(ctx, overlay.BaseRef{Path: next.String(), ID: next.ID()})
	return w, err
}

// snapshotsExist checks that every snapshot of this name in a new fstab exists.
func snapshotsExist(m *config.Model, file string, data []byte, to string) error {
	sources, err := config.SnapshotSources(file, data, to)
	if err != nil {
		return err
	}
	for _, source := range sources {
		if err := overlay.StatSnapshot(m.Path(source.Value)); err != nil {
			return fmt.Errorf("%s: %w", source.At, err)
		}
	}
	return nil
}

// editsExist is snapshotsExist for all fstabs of a switch.
func editsExist(m *config.Model, edits []config.FstabEdit, to string) error {
	for _, e := range edits {
		if err := snapshotsExist(m, e.File, e.New, to); err != nil {
			return err
		}
	}
	return nil
}

// Do carries out a plan. If a step fails after an fstab was replaced, the old fstabs are put back, and a
// jail that was stopped is started on them. Another switch of the same jail waits, and then finds that its
// plan is out of date.
func (s *Switcher) Do(ctx context.Context, w *Switch) error {
	unlock, err := lockOn(ctx, s.Model, w.Target.Name, w.base)
	if err != nil {
		return err
	}
	defer unlock()
	if err := editsExist(s.Model, w.Edits, w.To); err != nil {
		return err
	}
	if err := s.upToDate(w); err != nil {
		return err
	}
	j := newJournal(w, s.Now())
	if err := s.begin(j); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if w.Restart {
		if err := s.Jails.Stop(ctx, w.Target); err != nil {
			return s.notStopped(context.WithoutCancel(ctx), w, fmt.Errorf("stop: %w", err))
		}
	}
	err = s.writeFstabs(ctx, j.files())
	if err == nil && w.Restart {
		err = s.start(ctx, w.Target.Name)
	}
	if err != nil {
		return s.revert(context.WithoutCancel(ctx), w, err)
	}
	return s.end(w.Target.Name)
}

// upToDate reads the jail's fstabs again, and returns an error if a plan made now would be another one.
func (s *Switcher) upToDate(w *Switch) error {
	now, err := s.Model.SwitchTo(w.Target, w.To)
	if err != nil {
		return err
	}
	if len(now.Edits) != len(w.Edits) {
		return errReplan(w.Target.Fstab)
	}
	for i, e := range now.Edits {
		if e.File != w.Edits[i].File || !bytes.Equal(e.Old, w.Edits[i].Old) {
			return errReplan(e.File)
		}
	}
	return nil
}

// notStopped handles a jail that did not stop. If it still runs it is left as it is; if it is half
// stopped it is started again.
func (s *Switcher) notStopped(ctx context.Context, w *Switch, why error) error {
	if !s.Jails.Runs(ctx, w.Target) {
		if err := s.Jails.Start(ctx, w.Target); err != nil {
			return fmt.Errorf("%w; and it does not start again: %w", why, err)
		}
	}
	return errors.Join(fmt.Errorf("%w; nothing was switched", why), s.end(w.Target.Name))
}

// start starts a jail with the current configuration, and waits until it is up.
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

// revert undoes a switch that failed. The error says what failed, and whether the jail is as it was.
func (s *Switcher) revert(ctx context.Context, w *Switch, why error) error {
	var stopped error
	if w.Restart { // it may run on the new snapshot, well or not
		stopped = s.Jails.Stop(ctx, w.Target)
	}
	var errs []error
	for _, e := range slices.Backward(w.Edits) {
		errs = append(errs, s.writeFstab(ctx, e.File, e.New, e.Old))
	}
	err := errors.Join(errs...)
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

// writeFstabs gives fstabs their new texts, up to the first one that fails.
func (s *Switcher) writeFstabs(ctx context.Context, files []journalFile) error {
	for _, f := range files {
		if err := s.writeFstab(ctx, f.Fstab, f.Old, f.New); err != nil {
			return err
		}
	}
	return nil
}

// writeFstab replaces one text by another in a jail's fstab, which must hold one of the two. Then it
// saves the fstab to the host's cfg.
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
	if s.SaveHost == nil {
		return nil
	}
	rel, ok := inEtc(s.Model, file)
	if !ok {
		return nil
	}
	if err := s.SaveHost(ctx, rel); err != nil {
		return fmt.Errorf("save %s to the host's cfg: %w", file, err)
	}
	return nil
}
