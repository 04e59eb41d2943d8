package watcher

import "sync"

// budget divides what the system allows (inotify watches or kqueue descriptors) among the targets, and
// counts the targets. It is safe for concurrent use.
type budget struct {
	mu    sync.Mutex // guards the rest
	left  int
	users int
}

func newBudget() *budget { return &budget{left: capacity()} }

// take reserves n. It returns false if fewer are left.
func (b *budget) take(n int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n > b.left {
		return false
	}
	b.left -= n
	return true
}

func (b *budget) give(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left += n
}

func (b *budget) join()  { b.count(1) }
func (b *budget) leave() { b.count(-1) }

func (b *budget) count(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users += n
}

// targets returns the number of targets, at least one.
func (b *budget) targets() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.users, 1)
}
