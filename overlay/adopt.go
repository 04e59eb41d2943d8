package overlay

import (
	"context"
	"fmt"

	"cfgd/config"
	"cfgd/internal/dirfd"
)

// AdoptLive takes a live tree that something other than cfgd populated (rc.initdiskless, the paper's scripts) as populated,
// if it is beyond doubt the tree that base and cfg make: on memory of its own where the target has that, with most of the
// defaults and most of the overrides in place. It is how cfgd begins on a machine that is already running.
// The error says what spoke against it, and is an ErrNotPopulated.
func (o *Overlay) AdoptLive(ctx context.Context) error {
	unlock, err := o.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	base, err := o.Bases.get(ctx, o, o.Next(), true)
	if err != nil {
		return err
	}
	s, err := o.openStore(ctx, base, true)
	if err != nil {
		return err
	}
	defer s.Close()
	live, err := o.OpenLive()
	if err != nil {
		return err
	}
	defer live.Close()
	if err := o.ownMemory(live); err != nil {
		return err
	}
	t, err := Scan(ctx, live, ScanOptions{MaxFile: o.Target.MaxFile, Now: o.Now})
	if err != nil {
		return err
	}
	if err := resembles(base.Tree, t, s.Manifest); err != nil {
		return err
	}
	id, err := live.Identity()
	if err != nil {
		return err
	}
	return o.WriteRecord(&Record{Identity: id, State: Populated, BasePath: o.Target.Base, BaseID: base.ID, Generation: s.Manifest.Generation, Time: o.now().UTC(), Adopted: true, Memory: string(o.Target.Memory)})
}

// ownMemory refuses a live tree on which no filesystem is mounted.
func (o *Overlay) ownMemory(live *dirfd.Dir) error {
	if o.Target.Memory == config.BackingDir {
		return nil
	}
	on, err := live.MountRoot()
	if err == nil && !on {
		err = fmt.Errorf("%w: no memory filesystem is mounted on %s", ErrNotPopulated, o.Target.Live)
	}
	return err
}

// resembles compares live with what base and cfg make, by shares: more than half of each must be in place.
func resembles(base, live *Tree, m *Manifest) error {
	have, all := 0, 0
	for i := range base.Entries {
		if gone(m, base.Entries[i].Path) || base.Entries[i].Kind == dirfd.KindDir {
			continue
		}
		all++
		if has(live, base.Entries[i].Path) {
			have++
		}
	}
	if 2*have <= all {
		return fmt.Errorf("%w: only %d of %d defaults are in the live tree", ErrNotPopulated, have, all)
	}
	have = 0
	for i := range m.Overrides {
		if e, ok := live.Get(m.Overrides[i].Path); ok && e.sameContent(&m.Overrides[i].Entry) {
			have++
		}
	}
	if 2*have < len(m.Overrides) {
		return fmt.Errorf("%w: only %d of %d overrides are in the live tree", ErrNotPopulated, have, len(m.Overrides))
	}
	return nil
}

// Clear empties a live tree that is a plain directory and that cfgd populated, as unmounting empties a memory filesystem,
// and forgets it. A tree that cfgd did not populate is left alone.
func (o *Overlay) Clear(ctx context.Context) error {
	unlock, err := o.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	live, err := o.OpenLive()
	if err != nil {
		if absent(err) {
			return o.DropRecord()
		}
		return err
	}
	defer live.Close()
	r, err := o.Record()
	if err != nil || r == nil {
		return err
	}
	if id, err := live.Identity(); err != nil || id != r.Identity {
		return err
	}
	r.State = Populating // a crash from here on leaves a tree that is not taken for a whole one
	if err := o.WriteRecord(r); err != nil {
		return err
	}
	if err := live.Clear(); err != nil {
		return err
	}
	o.Forget()
	return o.DropRecord()
}
