package store

import (
	"io"
	"sync"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// Base is a target's read-only defaults and their scan. A nil Base means that there is no base.
type Base struct {
	ID   string
	Tree *tree.Tree

	Open func() (*dirfd.Dir, error)
	read *sync.Map // entries read by Entry, by path; shared by all Bases of this scan
}

// NewBase returns a base with its scan. Its contents can be read only after OpenedBy.
func NewBase(id string, t *tree.Tree) *Base { return &Base{ID: id, Tree: t, read: &sync.Map{}} }

// OpenedBy returns the same base, opened by the caller's function.
func (b *Base) OpenedBy(open func() (*dirfd.Dir, error)) *Base {
	return &Base{ID: b.ID, Tree: b.Tree, read: b.read, Open: open}
}

// scanned returns the base's tree, nil for no base.
func (b *Base) scanned() *tree.Tree {
	if b == nil {
		return nil
	}
	return b.Tree
}

// Name returns the base's id, "" for none.
func (b *Base) Name() string {
	if b == nil {
		return ""
	}
	return b.ID
}

// Entry returns a copy of the entry at path with its digest and attributes, nil if base has none.
func (b *Base) Entry(p string) (*tree.Entry, error) {
	if b == nil {
		return nil, nil
	}
	e, ok := b.Tree.Get(p)
	if !ok || e.Kind.Special() {
		return nil, nil
	}
	c := *e
	if c.Kind != dirfd.KindFile || c.Digest != (tree.Digest{}) || c.Unread != "" {
		return &c, nil
	}
	if b.read != nil {
		if known, ok := b.read.Load(p); ok {
			c = known.(tree.Entry)
			return &c, nil
		}
	}
	if err := b.fill(&c); err != nil {
		return nil, err
	}
	if b.read != nil {
		b.read.Store(p, c)
	}
	return &c, nil
}

// Here returns base's entry at e's path if both are files of the same content, else nil.
func (b *Base) Here(e *tree.Entry) *tree.Entry {
	d, err := b.Entry(e.Path)
	if err != nil || d == nil || d.Kind != dirfd.KindFile || d.Digest != e.Digest {
		return nil
	}
	return d
}

// fill reads what a scan with NoContent left out.
func (b *Base) fill(e *tree.Entry) error {
	f, err := b.File(e.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	if e.Digest, err = tree.DigestOf(f, e.Size); err != nil || b.Tree.NoXattrs {
		return err
	}
	x, err := f.Xattrs()
	e.Xattrs = tree.PackXattrs(x)
	if err != nil && !dirfd.NoXattr(err) {
		e.Unlisted, e.Excess = tree.WhyUnlisted(err), dirfd.XattrsTooLarge(err)
	}
	return nil
}

// File opens a default for reading.
func (b *Base) File(p string) (*dirfd.File, error) {
	root, err := b.Open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return tree.OpenFile(root, p)
}

// Content returns the content of a default.
func (b *Base) Content(e *tree.Entry) ([]byte, error) {
	f, err := b.File(e.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, e.Size+1))
}
