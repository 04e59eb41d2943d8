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

// benchTargets looks at many targets, one after the other and by two workers.
func benchTargets(ctx context.Context, l *lab) ([]row, error) {
	all, err := l.lookers(ctx)
	if err != nil {
		return nil, err
	}
	defer l.drop(all)
	ref := filepath.Join(l.base(), "rc.conf")
	single := &contestant{name: "one target", run: func() error { return lookAll(ctx, all[:1], 1) }}
	one := &contestant{name: "1 worker", run: func() error { return lookAll(ctx, all, 1) }}
	two := &contestant{name: "2 workers", run: func() error { return lookAll(ctx, all, 2) }}
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

// faster is a row of which the ratio says how many times as fast ours is.
func faster(name string, ours, peer *contestant, least float64) row {
	r := versus(name, ours.median(), peer.name, peer.median(), 0)
	times := float64(peer.median()) / float64(ours.median())
	r.ratio, r.target, r.reached = fmt.Sprintf("%.2f times as fast", times), fmt.Sprintf(">= %.3g",
		least), yes(times >= least)
	return r
}

// lookers are as many populated and looked-at targets as are asked for.
func (l *lab) lookers(ctx context.Context) ([]*looker, error) {
	var all []*looker
	var names *tree.Tree
	for range l.targets {
		o, err := l.populated(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, &looker{o: o})
	}
	settled()
	for _, k := range all {
		k.saved = names // so that all share the strings of their paths
		if err := k.scan(ctx); err != nil {
			return nil, err
		}
		k.saved, names = k.prev, k.prev
	}
	return all, nil
}

// drop removes the trees, which are large together.
func (l *lab) drop(all []*looker) {
	for _, k := range all {
		_ = os.RemoveAll(k.o.Target.Live) // what stays goes with the lab
	}
}

func (l *lab) eachLive(
	ctx context.Context, all []*looker, name string, args func(live string) []string,
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

// lookAll looks at each of them once, by some workers.
func lookAll(ctx context.Context, all []*looker, workers int) error {
	work := make(chan *looker)
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
