package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"cfgd/overlay/tree"
)

// benchTargets scans many targets, one after the other, and with two workers.
func benchTargets(ctx context.Context, l *lab) ([]row, error) {
	all, err := l.rescanners(ctx)
	if err != nil {
		return nil, err
	}
	defer l.drop(all)
	ref := filepath.Join(l.base(), "rc.conf")
	single := &contestant{name: "one target", run: func() error { return scanAll(ctx, all[:1], 1) }}
	one := &contestant{name: "1 worker", run: func() error { return scanAll(ctx, all, 1) }}
	two := &contestant{name: "2 workers", run: func() error { return scanAll(ctx, all, 2) }}
	find := l.eachLive(ctx, all, "find -newer",
		func(live string) []string { return []string{"find", live, "-newer", ref} })
	rsync := l.eachLive(ctx, all, "rsync -an", func(live string) []string {
		return []string{"rsync", "-an", "--delete", live, l.base() + "/"}
	})
	if err := race(ctx, max(l.rounds/3, 1), single, one, two, find, rsync); err != nil {
		return nil, err
	}
	for _, c := range []*contestant{one, two, find, rsync} {
		for i := range c.took {
			c.took[i] /= time.Duration(len(all))
		}
	}
	name := fmt.Sprintf("%d targets, of each, cached", len(all))
	rows := []row{against(name, one, rsync, 1.0/8), against(name, one, find, 1),
		versus(name, one.median(), single.name, single.median(), 0)}
	return append(rows, faster(fmt.Sprintf("%d targets by 2 workers", len(all)), two, one, 1.7)), nil
}

// faster returns a row whose ratio says how many times as fast cfgd is.
func faster(name string, ours, peer *contestant, least float64) row {
	r := versus(name, ours.median(), peer.name, peer.median(), 0)
	times := float64(peer.median()) / float64(ours.median())
	r.ratio, r.target, r.reached = fmt.Sprintf("%.2f times as fast", times), fmt.Sprintf(">= %.3g",
		least), yes(times >= least)
	return r
}

// rescanners makes as many targets as the flags say, populates each, and scans it once.
func (l *lab) rescanners(ctx context.Context) ([]*rescanner, error) {
	var all []*rescanner
	var names *tree.Tree
	for range l.targets {
		o, err := l.populated(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, &rescanner{o: o})
	}
	settled()
	for _, k := range all {
		k.saved = names // all share the strings of their paths
		if err := k.scan(ctx); err != nil {
			return nil, err
		}
		k.saved, names = k.prev, k.prev
	}
	return all, nil
}

// drop removes the trees, which are large.
func (l *lab) drop(all []*rescanner) {
	for _, k := range all {
		_ = os.RemoveAll(k.o.Target.Live) // the lab removes what is left
	}
}

func (l *lab) eachLive(
	ctx context.Context, all []*rescanner, name string, args func(live string) []string,
) *contestant {
	c := program(ctx, name, args("")...)
	c.run = func() error {
		for _, k := range all {
			if err := command(ctx, args(k.o.Target.Live+"/")...); err != nil {
				return err
			}
		}
		return nil
	}
	return c
}

// scanAll scans each of them once, with some workers.
func scanAll(ctx context.Context, all []*rescanner, workers int) error {
	work := make(chan *rescanner)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for k := range work {
				if _, err := k.changes(ctx); err != nil {
					errs[i] = err
				}
			}
		})
	}
	for _, k := range all {
		work <- k
	}
	close(work)
	wg.Wait()
	return errors.Join(errs...)
}
