package watcher

import "sync"

// budget shares out among the targets what the system allows of watches (inotify) or descriptors
// (kqueue), and counts those who share. It is safe for concurrent use.
type budget struct {
	mu    sync.Mutex // guards the rest
	left  int
	users int
}

func newBudget() *budget { return &budget{left: capacity()} }

// take reserves n; false where they are not there.
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

// targets is how many share, at least one.
func (b *budget) targets() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.users, 1)
}
