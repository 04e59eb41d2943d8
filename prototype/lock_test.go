package prototype

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cfgd/config"
	"cfgd/internal/flock"
)

// Snapshots taken at the same moment get names of their own, and each has the whole prototype.
func TestSnapshotsAtOnce(t *testing.T) {
	t.Parallel()
	const files, runs = 40, 6
	y := newProto(t)
	for i := range files {
		y.Write(fmt.Sprintf("jail/proto/many/%d", i), "x\n")
	}
	m, p := &config.Model{Root: y.Root}, &config.Prototype{Name: "proto", Root: "/jail/proto"}
	var wg sync.WaitGroup
	names, errs := make([]string, runs), make([]error, runs)
	for i := range runs {
		wg.Go(func() {
			names[i], errs[i] = TakeNext(t.Context(), m, p, Copies{Root: y.Path("jail/proto")}, "")
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	seen := map[string]bool{}
	for _, name := range names {
		list, err := os.ReadDir(filepath.Join(y.Path("jail/proto"), ".cfgd/snapshot", name, "many"))
		if err != nil || len(list) != files || seen[name] {
			t.Errorf("snapshot %q has %d files of %d: %v", name, len(list), files, err)
		}
		seen[name] = true
	}
}

// Users of snapshots share the lock of a prototype. Whoever changes it has the lock alone, and waits.
func TestPrototypeLock(t *testing.T) {
	t.Parallel()
	y := newProto(t)
	synctest.Test(t, func(t *testing.T) {
		m := &config.Model{Root: y.Root}
		k := &Relocator{Model: m, Now: time.Now}
		p := &config.Prototype{Name: "proto", Root: "/jail/proto"}
		first, err1 := LockShared(t.Context(), m, "proto")
		second, err2 := LockShared(t.Context(), m, "proto")
		other, err3 := Lock(t.Context(), m, "other")
		if err := errors.Join(err1, err2, err3); err != nil {
			t.Fatal(err)
		}
		defer other()
		began := time.Now()
		for name, change := range map[string]func() error{
			"snapshot": func() error {
				_, err := TakeNext(t.Context(), m, p, Copies{Root: y.Path("jail/proto")}, "")
				return err
			},
			"relocate": func() error {
				_, err := k.Move(t.Context(), p, "root/.ssh", "etc/x")
				return err
			},
			"relocate back": func() error { _, err := k.MoveBack(t.Context(), p, "root/.ssh"); return err },
		} {
			if err := change(); !errors.Is(err, flock.ErrHeld) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if waited := time.Since(began); waited != 3*lockWithin {
			t.Errorf("waited %v", waited)
		}
		first()
		time.AfterFunc(time.Second, second)
		alone, err := Lock(t.Context(), m, "proto")
		if err != nil {
			t.Fatal(err)
		}
		defer alone()
		if _, err := LockShared(t.Context(), m, "proto"); !errors.Is(err, flock.ErrHeld) {
			t.Errorf("shared while somebody has it alone: %v", err)
		}
	})
}

// A prototype whose name is a path and one whose name begins that path have locks of their own.
func TestLocksOfSimilarNames(t *testing.T) {
	t.Parallel()
	m := &config.Model{Root: newProto(t).Root}
	for _, name := range []string{"jail", "jail/proto", "proto", "jail%2Fproto"} {
		unlock, err := Lock(t.Context(), m, name)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
	}
}
