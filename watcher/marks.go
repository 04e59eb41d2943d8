package watcher

import (
	"maps"
	"time"

	"cfgd/internal/pathname"
)

// maxMarks bounds how many paths are told apart between two looks. Above it all is looked at.
const maxMarks = 4096

// marks are what a source heard since they were last taken: hints, in bounded memory. All times are since
// the target's start, by a clock that only goes forward.
type marks struct {
	paths map[string]span
	dirs  map[string]bool // to be listed: where names may have come or gone, or files changed

	// The last time when a path came that was not among them: what is changed in one go is told by that
	// from what is changed all the time.
	newest time.Duration
	// Since when anything may have changed: events were lost.
	lost  time.Duration
	isAll bool
}

// span is when a path was first and last heard of.
type span struct{ first, last time.Duration }

func (m *marks) empty() bool { return len(m.paths) == 0 && len(m.dirs) == 0 && !m.isAll }

// add marks a path, and the directory to be listed for it.
func (m *marks) add(now time.Duration, path, dir string) {
	m.put(path, span{now, now})
	m.list(now, dir)
}

func (m *marks) put(path string, s span) {
	was, ok := m.paths[path]
	switch {
	case ok:
		m.paths[path] = span{min(was.first, s.first), max(was.last, s.last)}
		return
	case len(m.paths) >= maxMarks:
		m.lose(s.first)
		return
	case m.paths == nil:
		m.paths = map[string]span{}
	}
	m.paths[path] = s
	m.newest = max(m.newest, s.first)
}

// list marks a directory to be listed.
func (m *marks) list(now time.Duration, dir string) {
	switch {
	case m.dirs[dir]:
	case len(m.dirs) >= maxMarks:
		m.lose(now)
	case m.dirs == nil:
		m.dirs = map[string]bool{dir: true}
	default:
		m.dirs[dir] = true
	}
}

// lose says that events were lost.
func (m *marks) lose(now time.Duration) {
	if !m.isAll || now < m.lost {
		m.lost, m.isAll = now, true
	}
}

// merge takes in others, of the same time or later.
func (m *marks) merge(o marks) {
	for p, s := range o.paths {
		m.put(p, s)
	}
	for d := range maps.Keys(o.dirs) {
		m.list(o.newest, d)
	}
	if o.isAll {
		m.lose(o.lost)
	}
}

// of is when a path was heard of. What is gone may be known by the directory that it went with.
func (m *marks) of(path string, gone bool) (span, bool) {
	s, ok := m.paths[path]
	for gone && !ok && path != "" {
		path = pathname.Parent(path)
		s, ok = m.paths[path]
	}
	return s, ok
}

// ripe is when a look finds something still: the first path is, and no other has come since for as long.
// What comes in one settle window is looked at together; a path that never rests, or new ones without
// end, hold up the others no longer than two windows.
func (m *marks) ripe(settle, maxWait time.Duration) time.Duration {
	first, quiet := never, never
	for _, s := range m.paths {
		first, quiet = min(first, s.first), min(quiet, s.last)
	}
	at := min(quiet+settle, first+maxWait)
	if m.newest <= first+settle {
		at = min(max(at, m.newest+settle), first+maxWait)
	}
	return at
}

// never is later than all times, with room to add to it.
const never = time.Duration(1<<63-1) / 2
