package watcher

import (
	"cfgd/internal/pathname"
)

import "maps"

// grove holds values by path and knows what lies below each path, so that to cut a directory costs what
// lies below it and not what the whole grove holds.
type grove[T any] map[string]*place[T]

// place is a path of a grove: one with a value, or one above such.
type place[T any] struct {
	value T
	set   bool
	below map[string]bool // the paths of places one level down
}

func (g grove[T]) get(path string) (value T, ok bool) {
	if p := g[path]; p != nil && p.set {
		return p.value, true
	}
	return value, false
}

func (g grove[T]) put(path string, value T) {
	p := g.make(path)
	p.value, p.set = value, true
}

func (g grove[T]) make(path string) *place[T] {
	p := g[path]
	if p == nil {
		p = &place[T]{}
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

// cut takes out what is at a path and below it, calls f for each value, a directory before what is in it.
func (g grove[T]) cut(path string, f func(path string, value T)) {
	p := g[path]
	if p == nil {
		return
	}
	delete(g, path)
	if p.set {
		f(path, p.value)
	}
	for q := range p.below {
		g.cut(q, f)
	}
	if up := g[pathname.Parent(path)]; up != nil && path != "" { // where what is above was not cut as well
		delete(up.below, path)
		if !up.set && len(up.below) == 0 {
			g.cut(pathname.Parent(path), f)
		}
	}
}

// each calls f for each value, a directory before what is in it. f may cut its path.
func (g grove[T]) each(f func(path string, value T)) { g.walk("", f) }

func (g grove[T]) walk(path string, f func(path string, value T)) {
	p := g[path]
	if p == nil {
		return
	}
	if p.set {
		f(path, p.value)
	}
	if g[path] != p { // it was cut
		return
	}
	for q := range maps.Clone(p.below) {
		g.walk(q, f)
	}
}
