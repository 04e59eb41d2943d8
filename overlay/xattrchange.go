package overlay

import (
	"cmp"
	"slices"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// XattrChange is an extended attribute that differs.
type XattrChange struct {
	Name string
	What tree.ChangeKind // Added, Modified or Deleted
}

// XattrChanges lists the attributes that a change changed, by name. An added path lists all that it has. A
// deleted path lists none, and neither does a tree whose filesystem has no attributes.
func (v *View) XattrChanges(c tree.Change) (all []XattrChange) {
	if c.New == nil || v.Base.Tree.NoXattrs || v.Live != nil && v.Live.NoXattrs {
		return nil
	}
	var was []dirfd.Xattr
	now, err := tree.UnpackXattrs(c.New.Xattrs)
	if c.Old != nil && err == nil {
		was, err = tree.UnpackXattrs(c.Old.Xattrs)
	}
	if err != nil { // can't happen in the result of a scan
		return nil
	}
	old := map[string]string{}
	for _, x := range was {
		old[x.Name] = string(x.Value)
	}
	for _, x := range now {
		if value, ok := old[x.Name]; !ok {
			all = append(all, XattrChange{x.Name, tree.Added})
		} else if value != string(x.Value) {
			all = append(all, XattrChange{x.Name, tree.Modified})
		}
		delete(old, x.Name)
	}
	for name := range old {
		all = append(all, XattrChange{name, tree.Deleted})
	}
	slices.SortFunc(all, func(a, b XattrChange) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
