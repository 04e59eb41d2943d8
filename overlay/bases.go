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

func (b *Bases) get(ctx context.Context, o *Overlay, g BaseRef, content bool) (*store.Base, error) {
	path := o.path(g.Path)
	b.mu.Lock()
	k := b.byPath[path]
	if k == nil {
		k = &keptBase{}
		b.byPath[path] = k
	}
	b.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.get(ctx, o, g, content || g.ID == "")
}

func (k *keptBase) get(ctx context.Context, o *Overlay, g BaseRef, content bool) (*store.Base, error) {
	root, err := o.openBase(g)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	st, err := root.Self()
	if err != nil {
		return nil, err
	}
	same := k.base != nil && k.base.Tree.Of(st) && (k.content || !content)
	if same && o.now().Sub(k.when) < o.Target.Rescan/2 {
		return openedBy(k.base, o, g), nil
	}
	var prev *tree.Tree
	if k.base != nil && k.content == content {
		prev = k.base.Tree
	}
	when := o.now()
	t, err := tree.Scan(ctx, root, tree.ScanOptions{Prev: prev, NoContent: !content, Now: o.Now})
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
	k.base = store.NewBase(id, t)
	k.when, k.content = when, content
	return openedBy(k.base, o, g), nil
}

// openedBy returns the base as one target opens it, perhaps through a mount of its own.
func openedBy(b *store.Base, o *Overlay, g BaseRef) *store.Base {
	return b.OpenedBy(func() (*dirfd.Dir, error) { return o.openBase(g) })
}
