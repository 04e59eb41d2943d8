package watcher

import "sync"

// budget shares out what the system allows of watches (inotify) or descriptors (kqueue) among the targets. It is safe for concurrent use.
type budget struct {
	mu   sync.Mutex // guards left
	left int
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
