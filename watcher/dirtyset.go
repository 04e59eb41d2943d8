package watcher

import (
	"maps"
	"time"

	"cfgd/internal/pathname"
)

// maxDirty bounds how many paths a dirtySet distinguishes. Above it everything is dirty.
const maxDirty = 4096

// dirtySet is what a source reported since it was last taken: hints, in bounded memory. All times are
// since the target's start, by a monotonic clock.
type dirtySet struct {
	paths map[string]span
	dirs  map[string]bool // directories to list, in which names or files may have changed

	// The last time at which a path was added that was not in the set. It tells changes made in one go
	// from changes that never end.
	newest time.Duration
	// Since when anything may have changed, because events were lost. Valid if all is set.
	lostAt time.Duration
	all    bool
}

// span is when a path was first and last reported.
type span struct{ first, last time.Duration }

func (m *dirtySet) empty() bool { return len(m.paths) == 0 && len(m.dirs) == 0 && !m.all }

// add adds a path, and the directory to list for it.
func (m *dirtySet) add(now time.Duration, path, dir string) {
	m.put(path, span{now, now})
	m.markDir(now, dir)
}

func (m *dirtySet) put(path string, s span) {
	was, ok := m.paths[path]
	switch {
	case ok:
		m.paths[path] = span{min(was.first, s.first), max(was.last, s.last)}
		return
	case len(m.paths) >= maxDirty:
		m.markAll(s.first)
		return
	case m.paths == nil:
		m.paths = map[string]span{}
	}
	m.paths[path] = s
	m.newest = max(m.newest, s.first)
}

// markDir adds a directory to list.
func (m *dirtySet) markDir(now time.Duration, dir string) {
	switch {
	case m.dirs[dir]:
	case len(m.dirs) >= maxDirty:
		m.markAll(now)
	case m.dirs == nil:
		m.dirs = map[string]bool{dir: true}
	default:
		m.dirs[dir] = true
	}
}

// markAll records that events were lost: everything is dirty.
func (m *dirtySet) markAll(now time.Duration) {
	if !m.all || now < m.lostAt {
		m.lostAt, m.all = now, true
	}
}

// merge adds another set, of the same time or later.
func (m *dirtySet) merge(o dirtySet) {
	for p, s := range o.paths {
		m.put(p, s)
	}
	for d := range maps.Keys(o.dirs) {
		m.markDir(o.newest, d)
	}
	if o.all {
		m.markAll(o.lostAt)
	}
}

// spanOf returns when a path was reported. If it is gone, a report about a directory above it counts.
func (m *dirtySet) spanOf(path string, gone bool) (span, bool) {
	s, ok := m.paths[path]
	for gone && !ok && path != "" {
		path = pathname.Parent(path)
		s, ok = m.paths[path]
	}
	return s, ok
}

// dueAt returns when to scan for settled changes: when the first path has settled and no new path came
// for as long. Changes within one settle window share a scan. A path that never rests, or an endless
// series of new ones, delays the others by two windows at most.
func (m *dirtySet) dueAt(settle, maxWait time.Duration) time.Duration {
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
