package jails

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"cfgd/config"
)

// ErrNotStarted reports a jail that was not switched because one before it failed, or because the command was
// interrupted.
var ErrNotStarted = errors.New("not switched")

// PlanAll plans the switches of several jails before the first one is changed. If all is set, it leaves out
// those that are on the snapshot already.
func (s *Switcher) PlanAll(
	ctx context.Context, targets []*config.Target, to string, restart, all bool,
) ([]*Switch, error) {
	var plans []*Switch
	for _, t := range targets {
		p, err := s.Plan(ctx, t, to, restart)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; nothing was switched", t.Name, err)
		}
		if !all || !p.Already() {
			plans = append(plans, p)
		}
	}
	return plans, nil
}

// Rollout says how several jails are switched.
type Rollout struct {
	Parallel  int  // so many at the same time
	KeepGoing bool // after a failure go on with the next jail
	// Done is called after each switch that succeeded; its error counts as the switch's.
	Done func(*Switch) error
}

// DoAll carries out plans in their order, and returns an error for each. After a failure, or after the end of
// ctx, it starts no other one: those have ErrNotStarted. It waits for those that it has started.
func (s *Switcher) DoAll(ctx context.Context, plans []*Switch, how Rollout) []error {
	errs := make([]error, len(plans))
	var failed atomic.Bool
	var g errgroup.Group
	g.SetLimit(max(how.Parallel, 1))
	for i, p := range plans {
		g.Go(func() error {
			if failed.Load() && !how.KeepGoing || ctx.Err() != nil {
				errs[i] = ErrNotStarted
				return nil
			}
			if errs[i] = s.Do(ctx, p); errs[i] == nil {
				errs[i] = how.Done(p)
			}
			if errs[i] != nil {
				failed.Store(true)
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs
	return errs
}
