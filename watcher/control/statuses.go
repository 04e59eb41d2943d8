package control

import (
	"context"
	"errors"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"cfgd/config"
	"cfgd/overlay"
)

// Patience is how long a command waits for the daemon's answer. The daemon may hang, and a jail must start
// and stop nevertheless.
const Patience = 15 * time.Second

// Statuses is the result of Saver.Statuses.
type Statuses struct {
	List    []Status   // in the order of the targets
	Notices [][]string // by target: what was found and repaired in its store
	Daemon  error      // why a daemon that runs does not answer
}

// Statuses returns the status of each target: the daemon's, or the result of a dry run if the daemon does not
// know the target.
func (s Saver) Statuses(ctx context.Context, targets []*config.Target) Statuses {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	out := Statuses{List: make([]Status, len(targets)), Notices: make([][]string, len(targets))}
	known := map[string]Status{}
	list, err := s.Client.Status(ctx, true)
	if !errors.Is(err, ErrNoDaemon) {
		out.Daemon = err
	}
	for _, st := range list {
		known[st.Name] = st
	}
	var g errgroup.Group
	g.SetLimit(max(runtime.NumCPU(), 2))
	for i, t := range targets {
		g.Go(func() error {
			st, ok := known[t.Name]
			if !ok {
				r, err := s.Overlay(t).Save(ctx, overlay.SaveOptions{DryRun: true})
				if r != nil && r.View != nil {
					out.Notices[i] = r.View.Notices
				}
				st = Describe(t, r, err)
			}
			out.List[i] = s.ofTarget(t, st)
			return nil
		})
	}
	_ = g.Wait() // there is no error: a status says what is wrong
	return out
}

// ofTarget completes a status with what the daemon does not know.
func (s Saver) ofTarget(t *config.Target, st Status) Status {
	if st.Down { // the daemon reads no tree of a jail that is down
		if err := s.Overlay(t).Earlier(); err != nil {
			st.Problem, st.Down = err.Error(), false
		}
	}
	if st.Populated && t.BaseID != "" && t.BaseID != st.Base {
		st.NextBase = t.BaseID
	}
	return st
}

// Optional is the daemon for those who only inform it. If it is Absent, there is nobody to inform, and the
// methods do nothing.
type Optional struct{ *Client }

// Attach makes the daemon watch a target, as Client.Attach does.
func (o Optional) Attach(ctx context.Context, target string) error {
	return o.inform(ctx, target, o.Client.Attach)
}

// Detach makes the daemon let go of a target, as Client.Detach does.
func (o Optional) Detach(ctx context.Context, target string) error {
	return o.inform(ctx, target, o.Client.Detach)
}

func (Optional) inform(ctx context.Context, target string, f func(context.Context, string) error) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	if err := f(ctx, target); !Absent(err) {
		return err
	}
	return nil
}
