package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/internal/hostfile"
	"cfgd/overlay/store"
)

// What is at cfg's place may be another store than the one that live was populated from: the fstab was
// changed, something was mounted over it, or it is a mountpoint with an empty .cfgd. A save there would write
// one jail's overrides over another's. So the store that was last written is recorded beside the record of
// live, and a store is written only if it continues that one.

// ErrOtherStore says that a cfg does not continue the store that live was populated from. It wraps ErrHeld.
var ErrOtherStore = fmt.Errorf("%w: another store", store.ErrHeld)

// lastStore is the store that was last written for a live tree, recorded in /var/run/cfgd/store/NAME.json.
type lastStore struct {
	Live       string    `json:"live"` // identity of the live tree
	Cfg        string    `json:"cfg"`  // identity of the store's directory
	At         string    `json:"at"`   // the name of the store for people
	Generation int       `json:"generation"`
	Time       time.Time `json:"time"` // of that generation: number and time together identify it
}

func (l *LiveTree) lastStorePath() string {
	return filepath.Join(l.RunDir, "store", l.Target.Name+".json")
}

// lastStore reads the record of the store. It returns nil if there is none, as after an older program, or if
// it is of another live tree.
func (l *LiveTree) lastStore() (*lastStore, error) {
	r, err := l.Record()
	if err != nil || r == nil || r.State != Populated {
		return nil, err
	}
	b, err := os.ReadFile(l.lastStorePath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var w lastStore
	if json.Unmarshal(b, &w) != nil || dirfd.PresentIdentity(w.Live) != r.Identity {
		return nil, nil
	}
	return &w, nil
}

// rememberStore records which store was opened for writing.
func (l *LiveTree) rememberStore(s *store.Store) error {
	r, err := l.Record()
	if err != nil || r == nil || r.State != Populated || l.Known != nil || s.Meta == nil {
		return err
	}
	m := s.Manifest
	if s.Before != nil { // what was adopted is only in memory
		m = s.Before
	}
	cfg, err := s.Cfg.Identity()
	if err != nil {
		return err
	}
	w := lastStore{Live: r.Identity, Cfg: cfg, At: l.cfgName(), Generation: m.Generation, Time: m.Time}
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(l.lastStorePath()); err == nil && string(old) == string(b)+"\n" {
		return nil
	}
	return hostfile.WriteVolatile(l.lastStorePath(), append(b, '\n'), 0o600)
}

// continues refuses a cfg that is not the recorded store. The same directory is the same store, whatever
// happened to it. Another directory, such as the same store mounted elsewhere or a copy of it, must hold the
// recorded generation.
func (l *LiveTree) continues(cfg *dirfd.Dir) error {
	w, err := l.lastStore()
	if err != nil || w == nil {
		return err
	}
	if id, err := cfg.Identity(); err != nil || id == dirfd.PresentIdentity(w.Cfg) {
		return err
	}
	ok, err := store.HoldsGeneration(cfg, w.Generation, w.Time)
	if err != nil || ok {
		return err
	}
	is, do := l.Target.Cfg, fmt.Sprintf("mount %s there again, or cfgd save --force %s if this one is meant",
		w.At, l.Target.Name)
	if l.CfgAt != "" {
		is, do = l.cfgName(), "let the fstab name "+w.At+" again"
	}
	if is == w.At {
		do = "bring back the store that was there"
		if l.CfgAt == "" {
			do += fmt.Sprintf(", or cfgd save --force %s if this one is meant", l.Target.Name)
		}
	}
	return fmt.Errorf("%s: %w: %s does not hold generation %d, which was last saved for %s in %s:"+
		" nothing is written to it; %s",
		l.Target.Name, ErrOtherStore, is, w.Generation, l.Target.Live, w.At, do)
}
