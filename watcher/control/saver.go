package control

import (
	"context"
	"errors"
	"strings"
	"sync"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/overlay"
)

// Absent reports whether an error means that the work has to be done without the daemon: none runs, or it
// does not know the target.
func Absent(err error) bool { return errors.Is(err, ErrNoDaemon) || errors.Is(err, ErrUnknownTarget) }

// Saver saves targets: through the daemon, or directly if the daemon is Absent. No other code makes that
// decision.
type Saver struct {
	Client  *Client
	Overlay func(t *config.Target) *overlay.Overlay
}

// Saved is the result of a save.
type Saved struct {
	Generation int
	Changes    []SavedPath
	Conflicts  []string // changed by hand in cfg and in live, and left as they are
	Notices    []string // what was found and repaired in the store
}

// SavedPath is a path that a save changed in cfg. Letter is that of --name-status, or R for an override
// that was released.
type SavedPath struct{ Letter, Path string }

// Save saves a target. A dry run never asks the daemon.
func (s Saver) Save(ctx context.Context, t *config.Target, so overlay.SaveOptions) (Saved, error) {
	if !so.DryRun {
		rq := Request{Target: t.Name, Paths: Quoted(so.Paths), Force: so.Force, Message: so.Message}
		if r, err := s.Client.Flush(ctx, rq); !Absent(err) {
			return r.saved(), err
		}
	}
	so.Ready = overlay.AsItIs
	r, err := s.direct(ctx, t, so)
	if err != nil {
		return Saved{}, err
	}
	return savedOf(r), nil
}

// direct saves without a daemon. If the target is the host and rc.initdiskless populated its etc, the
// live tree is adopted first, as the daemon does when it starts.
func (s Saver) direct(ctx context.Context, t *config.Target,
	so overlay.SaveOptions) (*overlay.Result, error) {
	o := s.Overlay(t)
	r, err := o.Save(ctx, so)
	if !errors.Is(err, overlay.ErrNotPopulated) || !t.Host() || so.DryRun {
		return r, err
	}
	if _, err := o.AdoptLive(ctx); err != nil {
		return r, err
	}
	return o.Save(ctx, so)
}

// Files returns a function that saves one file of a target's etc, by its path there. The function saves
// one file at a time.
func (s Saver) Files(t *config.Target) func(ctx context.Context, path string) error {
	var mu sync.Mutex
	return func(ctx context.Context, path string) error {
		mu.Lock()
		defer mu.Unlock()
		_, err := s.Save(ctx, t, overlay.SaveOptions{Paths: []string{path}})
		return err
	}
}

// saved returns the reply as a Saved, with its paths unquoted.
func (r Reply) saved() Saved {
	out := Saved{Generation: r.Generation}
	for _, line := range r.Saved {
		letter, path, _ := strings.Cut(line, " ")
		out.Changes = append(out.Changes, SavedPath{letter, unquoted(path)})
	}
	for _, path := range r.Released {
		out.Changes = append(out.Changes, SavedPath{"R", unquoted(path)})
	}
	for _, path := range r.Conflicts {
		out.Conflicts = append(out.Conflicts, unquoted(path))
	}
	return out
}

func savedOf(r *overlay.Result) Saved {
	out := Saved{Generation: r.Generation, Conflicts: r.Conflicts, Notices: r.View.Notices}
	for _, c := range r.Visible() {
		out.Changes = append(out.Changes, SavedPath{c.Kind.Letter(), c.Path})
	}
	for _, path := range r.Released {
		out.Changes = append(out.Changes, SavedPath{"R", path})
	}
	return out
}

// Quoted returns paths as they are written on the socket.
func Quoted(paths []string) []string {
	var out []string
	for _, p := range paths {
		out = append(out, pathname.Quote(p))
	}
	return out
}

func unquoted(path string) string {
	if p, err := pathname.Unquote(path); err == nil {
		return p
	}
	return path
}
