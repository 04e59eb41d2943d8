package watcher

import (
	"fmt"
	"sync"
	"time"

	"cfgd/watcher/control"
)

// stuckAfter is how long a scan may take before status mentions it. A scan waits without limit for
// another cfgd that holds the target's lock, and for a filesystem that hangs.
const stuckAfter = 10 * time.Second

// published is what everybody may know of a target. It is safe for concurrent use.
type published struct {
	mu     sync.Mutex // guards the rest
	status control.Status
	busy   time.Time // when the current scan began; zero if none runs
}

// update changes the status, and returns it.
func (p *published) update(f func(s *control.Status)) control.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.status)
	return p.status
}

func (p *published) setBusy(since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = since
}

// Status returns what the last scan found, and whether the current one is stuck.
func (p *published) Status() control.Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.status
	if took := time.Since(p.busy); !p.busy.IsZero() && took > stuckAfter {
		s.Problem = fmt.Sprintf("a scan or save has been at work for %s: another cfgd holds the lock of "+
			"the target, or a filesystem hangs", took.Round(time.Second))
	}
	return s
}
