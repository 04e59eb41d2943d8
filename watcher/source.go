package watcher

import (
	"sync"
	"time"

	"cfgd/config"
	"cfgd/overlay/tree"
)

// source reports what may have changed in a live tree. It may report too much or too little.
type source interface {
	// arm watches exactly what a scan found, and returns the directories that were not watched before.
	// With renew it also adds the watches again that it believes to have. That repairs watches that were
	// lost without an event.
	arm(live *tree.Tree, renew bool) (fresh []string, err error)
	// signal returns a channel that receives when there is something to take.
	signal() <-chan struct{}
	// take returns what was reported since the last take.
	take() dirtySet
	// close ends the watching. When it returns, no descriptor below live is open.
	close() error
}

// collector collects what a source reports, in bounded memory, until the target takes it. It is safe for
// concurrent use.
type collector struct {
	now  func() time.Duration // since the target's start
	wake chan struct{}

	mu      sync.Mutex // guards pending
	pending dirtySet
}

func newCollector(now func() time.Duration) *collector {
	return &collector{now: now, wake: make(chan struct{}, 1)}
}

func (e *collector) signal() <-chan struct{} { return e.wake }

func (e *collector) take() dirtySet {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.pending
	e.pending = dirtySet{}
	return m
}

// update changes the dirty set and wakes the target.
func (e *collector) update(f func(m *dirtySet, now time.Duration)) {
	e.mu.Lock()
	f(&e.pending, e.now())
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default: // it was woken already
	}
}

// lost records that anything may have changed without an event.
func (e *collector) lost() { e.update(func(m *dirtySet, now time.Duration) { m.markAll(now) }) }

// skipped returns a function that reports whether a path has a class whose changes are never saved.
func skipped(t *config.Target) func(path string) bool {
	return func(path string) bool {
		c, _ := t.Classes.Of(path)
		return c == config.Ignore || c == config.Volatile
	}
}
