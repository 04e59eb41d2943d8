package overlay

import (
	"slices"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// hidden reports whether a path is never shown, because its class is volatile or ignore.
func (v *View) hidden(path string) bool {
	c := v.class(path)
	return c == config.Volatile || c == config.Ignore
}

// Visible drops from a list of changes what is not shown: volatile, ignored and derived paths, what a scan
// could not read, and directories that the paths in them imply.
func (v *View) Visible(changes []tree.Change) []tree.Change {
	var out []tree.Change
	for i, c := range changes {
		switch {
		case v.hidden(c.Path), v.class(c.Path) == config.Derived:
		case v.Live != nil && v.Live.WhySkipped(c.Path) != "" && (c.New == nil || c.New.Unread == ""):
		case implied(changes, i):
		default:
			out = append(out, c)
		}
	}
	return out
}

// implied reports whether the next change shows that a directory came or went.
func implied(changes []tree.Change, i int) bool {
	c := changes[i]
	if c.Kind() != dirfd.KindDir || c.What != tree.Added && c.What != tree.Deleted || i+1 == len(changes) {
		return false
	}
	if c.What == tree.Added && c.New.Mode != tree.UsualDir {
		return false // its permissions must be shown
	}
	return pathname.Within(changes[i+1].Path, c.Path)
}

// Visible returns the saved changes, filtered as by View.Visible and without those in Released.
func (r *Result) Visible() []tree.Change {
	released := map[string]bool{}
	for _, p := range r.Released {
		released[p] = true
	}
	return slices.DeleteFunc(r.View.Visible(r.Saved), func(c tree.Change) bool { return released[c.Path] })
}

// Visible drops from a generation's changes the directories that the paths in them imply.
func (g Generation) Visible() []GenerationChange {
	var out []GenerationChange
	for i, c := range g.Changes {
		dir := c.New != nil && c.New.Kind == dirfd.KindDir || c.New == nil && c.Old.Kind == dirfd.KindDir
		if dir && !(c.What == tree.Added && c.New.Mode != tree.UsualDir) && c.What != tree.Mode &&
			c.What != tree.Type &&
			i+1 < len(g.Changes) &&
			pathname.Within(g.Changes[i+1].Path, c.Path) {
			continue
		}
		out = append(out, c)
	}
	return out
}
