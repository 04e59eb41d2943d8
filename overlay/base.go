package overlay

import (
	"fmt"
	"path"
	"strings"

	"cfgd/internal/dirfd"
)

// Base is a target's read-only defaults, scanned. A nil Base is one that is not there.
type Base struct {
	ID   string
	Tree *Tree

	open func() (*dirfd.Dir, error)
}

func (b *Base) tree() *Tree {
	if b == nil {
		return nil
	}
	return b.Tree
}

// id is the base's name, "" for none.
func (b *Base) id() string {
	if b == nil {
		return ""
	}
	return b.ID
}

// entry returns a copy of the entry at path with its digest, nil where base has none.
func (b *Base) entry(p string) (*Entry, error) {
	if b == nil {
		return nil, nil
	}
	e, ok := b.Tree.Get(p)
	if !ok || e.Kind.Special() {
		return nil, nil
	}
	c := *e
	if c.Kind != dirfd.KindFile || c.Digest != (Digest{}) || c.Unread != "" {
		return &c, nil
	}
	f, err := b.file(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	c.Digest, err = digestOf(f, c.Size)
	return &c, err
}

// file opens a default for reading.
func (b *Base) file(p string) (*dirfd.File, error) {
	root, err := b.open()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return openFile(root, p)
}

// openFile opens the regular file at p below root.
func openFile(root *dirfd.Dir, p string) (*dirfd.File, error) {
	dir, name := path.Split(p)
	d, err := root.Walk(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	f, err := d.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	return f, nil
}
