package overlay

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/internal/hostfile"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// What stands at cfg's place may be another store than the one that live was populated from: an fstab that was
// changed meanwhile, something that was mounted over it, a mountpoint with an empty .cfgd in it. A save there
// would write one jail's overrides over another's. So it is remembered, beside the record of live, which store
// was last written for it, and a store is written only if it continues that one.

// ErrOtherStore says that a cfg does not continue the store that live was populated from. It is an ErrHeld.
var ErrOtherStore = fmt.Errorf("%w: another store", store.ErrHeld)

// standing is the store that was last written for a live tree. It stands in /var/run/cfgd/store/NAME.json.
type standing struct {
	Live       string    `json:"live"` // the tree's identity
	Cfg        string    `json:"cfg"`  // the identity of the store's directory
	At         string    `json:"at"`   // what people call the store
	Generation int       `json:"generation"`
	Time       time.Time `json:"time"` // of that generation: with its number it names it
}

func (o *Overlay) standingPath() string {
	return filepath.Join(o.RunDir, "store", o.Target.Name+".json")
}

// standing reads what is remembered of the store; nil where nothing is, as of an older program, or where live
// is not the tree that it was remembered for.
func (o *Overlay) standing() (*standing, error) {
	r, err := o.Record()
	if err != nil || r == nil || r.State != Populated {
		return nil, err
	}
	b, err := os.ReadFile(o.standingPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var w standing
	if json.Unmarshal(b, &w) != nil || dirfd.PresentIdentity(w.Live) != r.Identity {
		return nil, nil
	}
	return &w, nil
}

// remembersStore notes which store it was that was opened for writing.
func (o *Overlay) remembersStore(s *store.Store) error {
	r, err := o.Record()
	if err != nil || r == nil || r.State != Populated || o.Known != nil || s.Meta == nil {
		return err
	}
	m := s.Manifest
	if s.Before != nil { // what was adopted is in memory only
		m = s.Before
	}
	cfg, err := s.Cfg.Identity()
	if err != nil {
		return err
	}
	w := standing{Live: r.Identity, Cfg: cfg, At: o.cfgName(), Generation: m.Generation, Time: m.Time}
	b, err := json.Marshal(w)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(o.standingPath()); err == nil && string(old) == string(b)+"\n" {
		return nil
	}
	return hostfile.WriteVolatile(o.standingPath(), append(b, '\n'), 0o600)
}

// cfgName is what people call the present cfg: what is mounted there, or the directory.
func (o *Overlay) cfgName() string {
	switch {
	case o.Target.CfgSource != "":
		return o.Target.CfgSource
	case o.CfgAt != "":
		return o.CfgAt
	}
	return o.Target.Cfg
}

// continues refuses a cfg that is another store than the one remembered. The same directory is the same store,
// whatever became of it. Another one, such as the same store mounted elsewhere or a copy of it, has to hold
// the generation that is remembered.
func (o *Overlay) continues(cfg *dirfd.Dir) error {
	w, err := o.standing()
	if err != nil || w == nil {
		return err
	}
	if id, err := cfg.Identity(); err != nil || id == dirfd.PresentIdentity(w.Cfg) {
		return err
	}
	ok, err := holdsGeneration(cfg, w)
	if err != nil || ok {
		return err
	}
	is, do := o.Target.Cfg, fmt.Sprintf("mount %s there again, or cfgd save --force %s if this one is meant", w.At, o.Target.Name)
	if o.CfgAt != "" {
		is, do = o.cfgName(), "let the fstab name "+w.At+" again"
	}
	if is == w.At {
		do = "bring back the store that was there"
		if o.CfgAt == "" {
			do += fmt.Sprintf(", or cfgd save --force %s if this one is meant", o.Target.Name)
		}
	}
	return fmt.Errorf("%s: %w: %s does not hold generation %d, which was last saved for %s in %s: nothing is written to it; %s",
		o.Target.Name, ErrOtherStore, is, w.Generation, o.Target.Live, w.At, do)
}

// holdsGeneration reports whether the store in a cfg holds a generation. It reads as little as tells, and
// writes nothing.
func holdsGeneration(cfg *dirfd.Dir, w *standing) (bool, error) {
	meta, err := cfg.Dir(tree.MetaName)
	if err != nil {
		return false, unlessAbsent(err)
	}
	defer meta.Close()
	if is, err := isGeneration(meta, store.ManifestFile, w); err != nil || is {
		return is, err
	}
	gens, err := meta.Dir(store.Generations)
	if err != nil {
		return false, unlessAbsent(err)
	}
	defer gens.Close()
	if w.Generation > 0 {
		return isGeneration(gens, strconv.Itoa(w.Generation), w)
	}
	names, err := gens.Names() // nothing was saved: the store has to be as empty
	if err != nil || len(names) > 0 {
		return false, err
	}
	if _, err = meta.Stat(store.ManifestFile); err == nil {
		return false, nil
	}
	if _, err := meta.Stat(store.FormatFile); err != nil {
		return false, unlessAbsent(err)
	}
	return true, nil
}

// isGeneration reports whether a manifest is that of the generation, by its first line.
func isGeneration(d *dirfd.Dir, name string, w *standing) (bool, error) {
	f, err := d.OpenFile(name)
	if err != nil {
		return false, unlessAbsent(err)
	}
	defer f.Close()
	first, err := bufio.NewReader(io.LimitReader(f, store.MaxManifest)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	m, _, err := store.ParseHeader(first)
	if err != nil {
		return false, nil // torn, or another thing
	}
	return m.Generation == w.Generation && m.Time.Equal(w.Time), nil
}

func unlessAbsent(err error) error {
	if absent(err) {
		return nil
	}
	return err
}
