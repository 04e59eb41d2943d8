package watcher

import (
	"sync"
	"time"

	"cfgd/config"
	"cfgd/overlay/tree"
)

// source tells what may have changed in a live tree. It may be wrong in both directions.
type source interface {
	// arm watches what a look found, and that alone, and returns the directories that were not watched
	// before. With anew it also renews what it believes to watch: that heals what was lost unheard.
	arm(live *tree.Tree, anew bool) (fresh []string, err error)
	// heard receives after there is something to take.
	heard() <-chan struct{}
	// take returns what was heard since the last take.
	take() marks
	// close ends the watching: no descriptor below live is open when it returns.
	close() error
}

// ear collects what a source hears, in bounded memory, until the target takes it. It is safe for
// concurrent use.
type ear struct {
	now  func() time.Duration // since the target's start
	wake chan struct{}

	mu sync.Mutex // guards m
	m  marks
}

func newEar(now func() time.Duration) *ear { return &ear{now: now, wake: make(chan struct{}, 1)} }

func (e *ear) heard() <-chan struct{} { return e.wake }

func (e *ear) take() marks {
	e.mu.Lock()
	defer e.mu.Unlock()
	m := e.m
	e.m = marks{}
	return m
}

// hear changes the marks and wakes the target.
func (e *ear) hear(f func(m *marks, now time.Duration)) {
	e.mu.Lock()
	f(&e.m, e.now())
	e.mu.Unlock()
	select {
	case e.wake <- struct{}{}:
	default: // it was woken already
	}
}

// lost says that anything may have changed unheard.
func (e *ear) lost() { e.hear(func(m *marks, now time.Duration) { m.lose(now) }) }

// unheard are the paths of which nobody wants to hear: no look finds anything to save in them.
func unheard(t *config.Target) func(path string) bool {
	return func(path string) bool {
		c, _ := t.Classes.Of(path)
		return c == config.Ignore || c == config.Volatile
	}
}
