package jails

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"cfgd/config"
	"cfgd/internal/flock"
	"cfgd/prototype"
)

// pruned is a machine on which a prune destroys snapshot 2, after something was planned on it.
func (y *yard) pruned() {
	y.Must(errors.Join(os.RemoveAll(y.Path("jail/proto/.zfs/snapshot/2")),
		os.RemoveAll(y.Path("jail/proto/etc/.zfs/snapshot/2"))))
}

// A snapshot that was destroyed after the plan was made is not named by any fstab.
func TestSnapshotPrunedAfterThePlan(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	w, s := y.plan("2", true), y.switcher()
	y.pruned()
	if err := s.Do(t.Context(), w); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("switch: %v", err)
	}
	y.ends("1", "1")

	y, z := newYard(t), &zpool{}
	before := y.state()
	c, err := y.spec().Plan(time.Now())
	y.Must(err)
	k := y.creator(z)
	y.pruned()
	if _, err := k.Create(t.Context(), c); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("create: %v", err)
	}
	if got := y.state(); got != before || len(z.changes()) > 0 {
		t.Errorf("%q was made; %q", got, z.changes())
	}
}

// While somebody prunes or snapshots a prototype, no jail is put on a snapshot of it.
func TestPrototypeAtWork(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	w, s := y.plan("2", false), y.switcher()
	c, err := y.spec().Plan(time.Now())
	y.Must(err)
	k := y.creator(&zpool{})
	synctest.Test(t, func(t *testing.T) {
		unlock, err := prototype.Lock(t.Context(), k.Model, "proto")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Do(t.Context(), w); !errors.Is(err, flock.ErrHeld) ||
			!strings.Contains(err.Error(), "at work on prototype proto: process ") {
			t.Errorf("switch: %v", err)
		}
		time.AfterFunc(time.Second, unlock)
		if _, err := k.Create(t.Context(), c); err != nil {
			t.Errorf("create waits: %v", err)
		}
	})
	y.ends("1", "1", "save fstab.web", "save rc.conf")
}

// watched is a yard whose jails try to take the prototype's lock alone whenever something is done to them.
type watched struct {
	*yard
	m    *config.Model
	free int
}

func (x *watched) Stop(ctx context.Context, t *config.Target) error {
	x.try(ctx)
	return x.yard.Stop(ctx, t)
}
func (x *watched) Up(ctx context.Context, t *config.Target) error {
	x.try(ctx)
	return x.yard.Up(ctx, t)
}

func (x *watched) try(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if unlock, err := prototype.Lock(ctx, x.m, "proto"); err == nil {
		unlock()
		x.free++
	}
}

// A switch holds the prototype's lock until the jail is up on the snapshot, or back on the old one.
func TestSwitchHoldsThePrototype(t *testing.T) {
	t.Parallel()
	for _, fail := range []string{"", "up 2"} {
		y := newYard(t)
		w, s := y.plan("2", true), y.switcher()
		x := &watched{yard: y, m: s.Model}
		s.Jails = x
		if fail != "" {
			y.fail[fail] = errors.New("it does not come up")
		}
		if err := s.Do(t.Context(), w); (err != nil) != (fail != "") || x.free > 0 || len(y.log) < 3 {
			t.Errorf("%q: %v, the prototype was free %d times; %q", fail, err, x.free, y.log)
		}
		if x.try(t.Context()); x.free != 1 {
			t.Errorf("%q: the prototype stays locked", fail)
		}
	}
}

// Nobody destroys a prototype while a jail is made on it. One that was made meanwhile is seen.
func TestDestroyOfAPrototypeInUse(t *testing.T) {
	t.Parallel()
	y := newYard(t)
	c, err := y.spec().PlanPrototype(config.DefaultFile, time.Now())
	y.Must(err)
	c.Jail = "proto"
	k := y.creator(&zpool{})
	y.Must(k.note(c))
	synctest.Test(t, func(t *testing.T) {
		unlock, err := prototype.LockShared(t.Context(), k.Model, "proto")
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Destroy(t.Context(), c, true); !errors.Is(err, flock.ErrHeld) {
			t.Errorf("%v", err)
		}
		unlock()
	})
	if err := k.Destroy(t.Context(), c, true); err == nil ||
		!strings.Contains(err.Error(), "names a snapshot of it") {
		t.Errorf("%v", err)
	}
}
