package overlay

import (
	"context"
	"errors"
	"fmt"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Population is what Populate did.
type Population struct {
	Entries    int
	BaseID     string
	OldBaseID  string // the base that the overrides were made against
	Generation int
	// Merge is the result of the merge, if cfg was made against another base. It is nil if there was no merge
	// or it failed.
	Merge *merge.Result
	// Unmerged says why cfg was laid unmerged over other defaults than it was made against. It is nil if it
	// was not.
	Unmerged error
	// Hiding lists overrides that hide a changed default: the default is not the one they were made against.
	Hiding  []string
	Notices []string
	Adopted []string
}

// ErrNotEmpty says that a live tree that is to be populated holds something that cfgd did not put there.
var ErrNotEmpty = errors.New("not empty")

// Populate fills the empty live tree from base and cfg. It replaces the tree's old record; the new one says
// populating until all is there. memory names what holds the tree, for the record.
func (o *Overlay) Populate(ctx context.Context, memory, device string) (*Population, error) {
	unlock, err := o.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	base, err := o.scanBase(ctx, o.Next(), false)
	if err != nil {
		return nil, err
	}
	live, err := o.OpenLive()
	if err != nil {
		return nil, err
	}
	defer live.Close()
	if names, err := live.Names(); err != nil || len(names) > 0 {
		return nil, errors.Join(err, fmt.Errorf("live: %s: %w", o.Target.Live, ErrNotEmpty))
	}
	s, err := openMerged(ctx, o, base)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	p, err := fill(ctx, o, s.Store, live, &Record{
		BasePath:   o.Target.Base,
		BaseID:     base.ID,
		Generation: s.Manifest.Generation,
		Memory:     memory,
		Device:     device,
	})
	if err != nil {
		return nil, err
	}
	p.Merge, p.Unmerged = s.merge, s.unmerged
	return p, nil
}

// fill copies the saved tree of a store to live. The record says populating meanwhile, and populated at
// the end.
func fill(
	ctx context.Context, o *Overlay, s *store.Store, live *dirfd.Dir, r *Record,
) (*Population, error) {
	id, err := live.Identity()
	if err != nil {
		return nil, err
	}
	r.Identity, r.State, r.Time = id, Populating, o.now().UTC()
	// the directory may have been hidden as an earlier start's
	if err := errors.Join(o.WriteRecord(r), o.DropHidden(id)); err != nil {
		return nil, err
	}
	saved := tree.Saved(s.Base.Tree, store.WithManifest(s.Base.Tree, s.Plain, s.Manifest),
		s.Manifest.Removals)
	base, err := s.Base.Open()
	if err != nil {
		return nil, err
	}
	defer base.Close()
	refused, err := tree.Copy{Saved: saved, Base: base, Plain: s.Plain, Cfg: s.Cfg, To: live}.Run(ctx)
	if err != nil {
		return nil, fmt.Errorf("populate %s: %w", o.Target.Live, err)
	}
	r.State, r.Refused = Populated, refused
	if err := o.WriteRecord(r); err != nil {
		return nil, err
	}
	out := &Population{
		Entries:    len(saved.Entries),
		BaseID:     s.Base.ID,
		OldBaseID:  s.Manifest.BaseID,
		Generation: s.Manifest.Generation,
		Notices:    s.Notices,
		Adopted:    s.Adopted,
	}
	if len(refused) > 0 {
		out.Notices = append(out.Notices, refusedNotice(o.Target.Live, refused))
	}
	if all := leftOut(s.Base.Tree, saved, nil); len(all) > 0 {
		out.Notices = append(out.Notices, leftOutNotice(all))
	}
	out.Hiding, err = s.Hiding()
	if err != nil {
		return nil, err
	}
	return out, s.TakeHandEdits(ctx)
}

// refusedNotice says what live's filesystem can't hold.
func refusedNotice(live string, refused []tree.Refused) string {
	path, _ := refused[0].Name()
	return fmt.Sprintf("%s: its filesystem can't hold all flags and attributes of what is saved:"+
		" %d paths lack some, such as %s; they stay saved",
		live, len(refused), pathname.Quote(path))
}
