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
	"time"

	"cfgd/internal/dirfd"
	"cfgd/internal/flock"
	"cfgd/internal/hostfile"
	"cfgd/overlay/tree"
)

// LiveTree is a target's live tree, with the records in RunDir that say which tree it is: the record of
// the tree that cfgd populated last, and those of trees of earlier starts.
type LiveTree struct {
	Trees
	// RunDir holds locks and records: /var/run/cfgd.
	RunDir string
	// Known replaces the target's record; nil means to read it. It is for a live tree of an earlier start
	// while a later one has the record.
	Known *Record
}

// State says what is at a target's live path, without reading the tree.
type State struct {
	Record *Record // nil if there is no record
	// Populated says that the tree is the recorded one, and complete.
	Populated bool
	// Interrupted says that the tree is the recorded one, and that cfgd was stopped while it filled or
	// emptied it.
	Interrupted bool
	Missing     bool // there is no directory
	Empty       bool // the directory is empty
}

// State reads the live path and its record.
func (l *LiveTree) State() (State, error) {
	var s State
	live, err := l.OpenLive()
	if err != nil {
		if !absent(err) {
			return s, err
		}
		s.Missing = true
		s.Record, err = l.Record()
		return s, err
	}
	defer live.Close()
	names, err := live.Names()
	if err != nil {
		return s, err
	}
	s.Empty = len(names) == 0
	if s.Record, err = l.Record(); err != nil || s.Record == nil {
		return s, err
	}
	id, err := live.Identity()
	if err != nil {
		return s, err
	}
	same := id == s.Record.Identity
	s.Populated = same && s.Record.State == Populated
	s.Interrupted = same && s.Record.State != Populated
	return s, nil
}

// ErrNotPopulated says that there is no live tree that cfgd populated. Then nothing is saved, whatever is
// missing in the tree.
var ErrNotPopulated = errors.New("not populated")

// notPopulated says why there is no live tree to save, nil if there is one. It is asked before anything else
// is opened, because cfg and base of a jail that is down may be missing too.
func (l *LiveTree) notPopulated() error {
	live, err := l.OpenLive()
	if err != nil {
		if absent(err) {
			return fmt.Errorf("%w: %w", ErrNotPopulated, err)
		}
		return err
	}
	defer live.Close()
	_, err = l.populated(live)
	return err
}

// populated returns the record if the open live tree is the one that cfgd populated. For a tree of an earlier
// start the error is an *EarlierError.
func (l *LiveTree) populated(live *dirfd.Dir) (*Record, error) {
	r, err := l.Record()
	if err != nil {
		return nil, err
	}
	id, err := live.Identity()
	if err != nil {
		return nil, err
	}
	if r == nil || r.Identity != id {
		if err := l.hidden(id); err != nil {
			return nil, err
		}
	}
	switch {
	case r == nil:
		return nil, fmt.Errorf("%w by cfgd since the machine started", ErrNotPopulated)
	case r.Identity != id:
		return nil, fmt.Errorf("%w: %s is not the filesystem that was populated (unmounted, or mounted anew)",
			ErrNotPopulated, l.Target.Live)
	case r.State != Populated:
		return nil, fmt.Errorf("%w: cfgd was interrupted while it populated the tree", ErrNotPopulated)
	}
	return r, nil
}

// currentBase returns the base that live was populated from, whatever the configuration says of the next
// start. If live is not populated, it returns the next one.
func (l *LiveTree) currentBase() (BaseRef, error) {
	r, err := l.Record()
	if err != nil || r == nil || r.BasePath == "" || r.State != Populated {
		return l.Next(), err
	}
	live, err := l.OpenLive()
	if err != nil {
		if absent(err) {
			return l.Next(), nil
		}
		return BaseRef{}, err
	}
	defer live.Close()
	if id, err := live.Identity(); err != nil || id != r.Identity {
		return l.Next(), err
	}
	g := BaseRef{r.BasePath, r.BaseID}
	if g.Path == l.Target.Base && l.Target.BaseID == "" {
		g.ID = "" // a plain tree may change in place; its digest shows it
	}
	return g, nil
}

// Record says which live tree cfgd populated. It is /var/run/cfgd/live/NAME.json, which a restart of the
// machine clears. It names the filesystem, so that neither an unmounted tree nor a new one is mistaken for
// it.
type Record struct {
	Identity   string    `json:"identity"` // dirfd.Dir.Identity of the live root
	State      string    `json:"state"`    // populating or populated
	BasePath   string    `json:"basePath"` // from the configuration
	BaseID     string    `json:"base"`
	Generation int       `json:"generation"`
	Time       time.Time `json:"time"`
	// populated by something else, and taken over by AdoptLive
	Adopted bool   `json:"adopted,omitempty"`
	Memory  string `json:"memory,omitempty"` // md3, tmpfs or dir
	Device  string `json:"device,omitempty"`
	// Refused is what live's filesystem refused of what it was populated from.
	Refused []tree.Refused `json:"lacks,omitempty"`
}

// The values of Record.State.
const (
	Populating = "populating"
	Populated  = "populated"
)

func (l *LiveTree) recordPath() string {
	return filepath.Join(l.RunDir, "live", l.Target.Name+".json")
}

// Record reads the target's record. It is nil if there is none that can be read.
func (l *LiveTree) Record() (*Record, error) {
	if l.Known != nil {
		return l.Known, nil
	}
	b, err := os.ReadFile(l.recordPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s: %w; remove the file and run cfgd jail init %s", l.recordPath(), err,
			l.Target.Name)
	}
	// also of a machine that was running when cfgd was replaced
	r.Identity = dirfd.PresentIdentity(r.Identity)
	return &r, nil
}

// WriteRecord replaces the target's record.
func (l *LiveTree) WriteRecord(r *Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return hostfile.WriteVolatile(l.recordPath(), append(b, '\n'), 0o600)
}

// DropRecord removes the target's record.
func (l *LiveTree) DropRecord() error {
	err := os.Remove(l.recordPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

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

func (l *LiveTree) earlierError(r *Record, how string) *EarlierError {
	why := fmt.Sprintf("%v: %s holds the /etc of an earlier start%s: cfg has newer state, and this is not"+
		" saved; cfgd jail cleanup %s puts it in an archive",
		ErrNotPopulated, l.Target.Live, how, l.Target.Name)
	return &EarlierError{r, why}
}

// hiddenRecord returns the file for the record of a hidden tree. It is in /var/run, because the tree does not
// outlive the machine's restart either.
func (l *LiveTree) hiddenRecord(identity string) string {
	sum := sha256.Sum256([]byte(identity))
	return filepath.Join(l.RunDir, "hidden", fmt.Sprintf("%s.%.6x.json", l.Target.Name, sum))
}

// ErrNotKept says that the record of a hidden tree could not be written. The target's own record is then the
// only one and must stay.
var ErrNotKept = errors.New("its record can't be kept")

// KeepHidden writes the record of a tree that is hidden, so that it is recognized when it appears again. Its
// error wraps ErrNotKept.
func (l *LiveTree) KeepHidden(r *Record) error {
	b, err := json.Marshal(r)
	if err == nil {
		err = hostfile.Write(l.hiddenRecord(r.Identity), append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNotKept, err)
	}
	return nil
}

// DropHidden removes the record of a hidden tree.
func (l *LiveTree) DropHidden(identity string) error {
	return hostfile.Remove(l.hiddenRecord(identity))
}

// hidden returns an *EarlierError if the tree of this identity was hidden. If the record can't be read, the
// error has only its name.
func (l *LiveTree) hidden(identity string) error {
	b, err := os.ReadFile(l.hiddenRecord(identity))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var r Record
	if json.Unmarshal(b, &r) != nil || r.Identity != identity {
		r = Record{Identity: identity, State: Populated, BasePath: l.Target.Base, BaseID: l.Target.BaseID,
			Memory: string(l.Target.Memory)}
	}
	return l.earlierError(&r, "")
}

// lockPatience is longer than any save or restore takes.
const lockPatience = 30 * time.Second

// Locked runs f under the target's lock, so that nobody else writes cfg and live.
func (l *LiveTree) Locked(ctx context.Context, f func() error) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// lock takes the target's lock, which one writer holds at a time.
func (l *LiveTree) lock(ctx context.Context) (unlock func(), err error) {
	return flock.Lock(ctx, filepath.Join(l.RunDir, "lock", l.Target.Name), l.Target.Name, lockPatience)
}

// Earlier returns an ErrEarlier if live is the tree of an earlier start, else nil.
func (l *LiveTree) Earlier() error {
	if err := l.notPopulated(); errors.Is(err, ErrEarlier) {
		return err
	}
	return nil
}
