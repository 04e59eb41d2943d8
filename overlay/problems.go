package overlay

import (
	"context"
	"errors"
	"fmt"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Problems returns what is wrong with the target's trees: a base that does not exist, a cfg that can't be
// read, a damaged store. It changes nothing. A jail that is down need not have anything mounted. embedded
// means that nothing is mounted at all: then only a cfg that does not exist is no problem of such a jail.
func (o *Overlay) Problems(ctx context.Context, embedded bool) []conffile.Problem {
	t := o.Target
	v, err := o.Look(ctx, LookOptions{})
	if err != nil {
		if o.isDown() && (!embedded || !o.hasCfg()) {
			return nil // the start mounts or makes what is missing
		}
		at := t.Origin["base"]
		return []conffile.Problem{{
			Severity: conffile.SeverityError, File: at.File, Line: at.Line, Target: t.Name,
			Message: t.Name + ": " + err.Error(), Fix: "mount or make it, or mend the line",
		}}
	}
	var out []conffile.Problem
	for _, n := range v.Notices {
		out = append(out, conffile.Problem{
			Severity: conffile.SeverityWarning, File: t.Cfg, Target: t.Name, Message: n,
			Fix: "run: cfgd save " + t.Name,
		})
	}
	return out
}

func (o *Overlay) isDown() bool {
	st, err := o.State()
	return err == nil && !st.Populated
}

func (o *Overlay) hasCfg() bool {
	d, err := o.OpenCfg()
	d.Close()
	return err == nil
}

// ErrUnknownPath reports a path that is in none of a target's three trees.
var ErrUnknownPath = errors.New("neither in base nor in cfg nor in live")

// Has reports whether a path is in one of the three trees.
func (v *View) Has(p string) bool {
	for _, t := range []*tree.Tree{v.Base.Tree, v.Plain, v.Live} {
		if t == nil {
			continue
		}
		if _, ok := t.Get(p); ok {
			return true
		}
	}
	return p == ""
}

// Unsavable tells which of the paths do not exist, and which are never saved. A save of such a path has
// nothing to do, and would look successful.
func (o *Overlay) Unsavable(ctx context.Context, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	r, err := o.Save(ctx, SaveOptions{Paths: paths, DryRun: true})
	if err != nil {
		return err
	}
	why := map[string]string{}
	for _, k := range r.Kept {
		why[k.Path] = string(k.Reason)
	}
	for _, p := range paths {
		class, reason := o.Target.Classes.Of(p)
		name := pathname.Quote(p)
		switch {
		case why[p] != "":
			err = errors.Join(err, fmt.Errorf("%s is not saved: %s", name, why[p]))
		case class == config.Volatile || class == config.Ignore:
			err = errors.Join(err, fmt.Errorf("%s is not saved: class %s: %s", name, class, reason))
		case !r.View.Has(p):
			err = errors.Join(err, fmt.Errorf("%s: %w", name, ErrUnknownPath))
		}
	}
	return err
}
