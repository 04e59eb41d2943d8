package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"cfgd/merge"
	"cfgd/overlay"
)

const overrides = 120

// benchMerge plans merges of many jails with a release that changed a third of the defaults. The jails are
// down, and share the two bases. Each plan is made by an overlay that remembers nothing of its cfg.
func benchMerge(ctx context.Context, l *lab) ([]row, error) {
	next := filepath.Join(l.dir, "base2")
	if err := l.release(next); err != nil {
		return nil, err
	}
	first, err := l.overridden(ctx)
	if err != nil {
		return nil, err
	}
	to := overlay.BaseRef{Path: next, ID: "proto/etc@2"}
	cfg := first.Target.Cfg + "/"
	ours := &contestant{
		name: "plan", run: func() error {
			_, err := planOn(ctx, l, first, overlay.NewBases(), to)
			return err
		},
	}
	diff := &contestant{name: "diff -r", tools: []string{"diff"}, run: func() error {
		_ = command(ctx, "diff", "-r", l.base(), next) // the exit status is 1, because they differ
		_ = command(ctx, "diff", "-r", l.base(), cfg)
		return ctx.Err()
	}}
	if err := race(ctx, l.rounds, ours, diff); err != nil {
		return nil, err
	}
	one, hundredth, n, err := l.sharing(ctx, first, to)
	if err != nil {
		return nil, err
	}
	return []row{
		against(fmt.Sprintf("plan of a merge, %d overrides", overrides), ours, diff, 0.1),
		versus(fmt.Sprintf("plan of the %dth jail on the same bases", n), hundredth, "the first", one, 0.1),
	}, nil
}

func planOn(
	ctx context.Context, l *lab, o *overlay.Overlay, bases *overlay.Bases, to overlay.BaseRef,
) (*merge.Result, error) {
	p := l.placesOf(o)
	p.Live = filepath.Join(l.dir, "down")
	k := newOverlay(p)
	k.Bases = bases
	m, err := k.PlanMerge(ctx, to)
	if err == nil && len(m.Outcomes) < overrides/2 {
		err = fmt.Errorf("only %d outcomes", len(m.Outcomes))
	}
	return m, err
}

// sharing plans merges for as many jails as there are targets, one after the other.
func (l *lab) sharing(
	ctx context.Context, first *overlay.Overlay, to overlay.BaseRef,
) (one, last time.Duration, n int, err error) {
	bases := overlay.NewBases()
	var took []time.Duration
	for range max(l.targets, 2) {
		start := time.Now()
		if _, err := planOn(ctx, l, first, bases, to); err != nil {
			return 0, 0, 0, err
		}
		took = append(took, time.Since(start))
	}
	return took[0], quantile(took[len(took)/2:], 0.5), len(took), nil
}

// release makes a later release of the tree: it changes a line in every third text.
func (l *lab) release(root string) error {
	if err := writeTree(root, l.items); err != nil {
		return err
	}
	for i, it := range l.texts() {
		if i%3 == 0 {
			if err := it.rewrite(root, 2, "changed_by_the_release = 1\n"); err != nil {
				return err
			}
		}
	}
	return nil
}

// overridden makes a target and saves its overrides. Every other override is of a file that the release
// changes too.
func (l *lab) overridden(ctx context.Context) (*overlay.Overlay, error) {
	o, err := l.populated(ctx)
	if err != nil {
		return nil, err
	}
	texts := l.texts()
	for i := 0; i < overrides && i < len(texts)/3; i++ {
		if err := texts[3*i+i%2].rewrite(o.Target.Live, 12, "changed_here = 1\n"); err != nil {
			return nil, err
		}
	}
	_, err = o.Save(ctx, overlay.SaveOptions{})
	return o, err
}

// texts returns the files that are text.
func (l *lab) texts() []*item {
	var list []*item
	for i := range l.items {
		if it := &l.items[i]; !it.dir && it.link == "" && !it.table && it.size > 300 {
			list = append(list, it)
		}
	}
	return list
}

// rewrite changes a line of a file below root.
func (it *item) rewrite(root string, line int, to string) error {
	lines := bytes.SplitAfter(it.content(), []byte("\n"))
	lines[min(line, len(lines)-1)] = []byte(to)
	full := filepath.Join(root, it.path)
	if err := os.Chmod(full, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(full, bytes.Join(lines, nil), 0o600); err != nil {
		return err
	}
	return it.settle(root)
}
