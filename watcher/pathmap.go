package watcher

import (
	"maps"

	"cfgd/internal/pathname"
)

// pathMap maps paths to values and knows what is below each path. So removing a directory costs what is
// below it and not the size of the map.
type pathMap[T any] map[string]*pathNode[T]

// pathNode is a path of a pathMap: one with a value, or a directory above one.
type pathNode[T any] struct {
	value T
	set   bool
	below map[string]bool // the paths one level down
}

func (g pathMap[T]) get(path string) (value T, ok bool) {
	if p := g[path]; p != nil && p.set {
		return p.value, true
	}
	return value, false
}

func (g pathMap[T]) put(path string, value T) {
	p := g.make(path)
	p.value, p.set = value, true
}

func (g pathMap[T]) make(path string) *pathNode[T] {
	p := g[path]
	if p == nil {
		p = &pathNode[T]{}
		g[path] = p
		if path != "" {
			up := g.make(pathname.Parent(path))
			if up.below == nil {
				up.below = map[string]bool{}
			}
			up.below[path] = true
		}
	}
	return p
}

// removeBelow removes what is at a path and below it, and calls f for each value, a directory before its
// contents.
func (g pathMap[T]) removeBelow(path string, f func(path string, value T)) {
	p := g[path]
	if p == nil {
		return
	}
	delete(g, path)
	if p.set {
		f(path, p.value)
	}
	for q := range p.below {
		g.removeBelow(q, f)
	}
	if up := g[pathname.Parent(path)]; up != nil && path != "" { // the directory above was not removed too
		delete(up.below, path)
		if !up.set && len(up.below) == 0 {
			g.removeBelow(pathname.Parent(path), f)
		}
	}
}

// each calls f for each value, a directory before its contents. f may remove its own path.
func (g pathMap[T]) each(f func(path string, value T)) { g.walk("", f) }

func (g pathMap[T]) walk(path string, f func(path string, value T)) {
	p := g[path]
	if p == nil {
		return
	}
	if p.set {
		f(path, p.value)
	}
	if g[path] != p { // f removed it
		return
	}
	for q := range maps.Clone(p.below) {
		g.walk(q, f)
	}
}
