package overlay

import (
	"context"
	"fmt"
	"sync"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Bases keeps the scans of bases, because targets on the same snapshot share them. A target's max_file does
// not apply to them: a default is compared by its content, however large it is. Bases is safe for concurrent
// use.
type Bases struct {
	mu     sync.Mutex // guards byPath
	byPath map[string]*keptBase

	texts sync.Map // merged texts by threeTexts, because jails of one prototype have many in common
}

type keptBase struct {
	mu      sync.Mutex // held during a scan; guards the rest
	base    *store.Base
	when    time.Time
	content bool
}

// NewBases returns an empty Bases.
func NewBases() *Bases { return &Bases{byPath: map[string]*keptBase{}} }

// get returns the scan of a base. With content it knows the digests of all files.
func (b *Bases) get(
	ctx context.Context, t *Trees, now func() time.Time, g BaseRef, content bool,
) (*store.Base, error) {
	path := t.path(g.Path)
	b.mu.Lock()
	k := b.byPath[path]
	if k == nil {
		k = &keptBase{}
		b.byPath[path] = k
	}
	b.mu.Unlock()
	open := func() (*dirfd.Dir, error) { return t.openBase(g) }
	root, err := open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	base, err := k.scan(ctx, root, g, content || g.ID == "", t.Target.Rescan/2, now)
	if err != nil {
		return nil, err
	}
	return base.OpenedBy(open), nil // by this target, perhaps through a mount of its own
}

// scan returns the last scan of a base if it is of this root and not older than valid, else a new one.
func (k *keptBase) scan(
	ctx context.Context, root *dirfd.Dir, g BaseRef, content bool, valid time.Duration, now func() time.Time,
) (*store.Base, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	st, err := root.Self()
	if err != nil {
		return nil, err
	}
	same := k.base != nil && k.base.Tree.Of(st) && (k.content || !content)
	if same && now().Sub(k.when) < valid {
		return k.base, nil
	}
	var prev *tree.Tree
	if k.base != nil && k.content == content {
		prev = k.base.Tree
	}
	when := now()
	t, err := tree.Scan(ctx, root, tree.ScanOptions{Prev: prev, NoContent: !content, Now: now})
	if err != nil {
		return nil, fmt.Errorf("scan base: %w", err)
	}
	if len(t.Entries) == 0 {
		return nil, fmt.Errorf("base: %s is empty: is it mounted?", g.Path)
	}
	id := g.ID
	if id == "" {
		id = "sha256:" + t.Digest().String()[:12]
	}
	k.base, k.when, k.content = store.NewBase(id, t), when, content
	return k.base, nil
}
