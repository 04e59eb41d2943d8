package prototype

import (
	"context"
	"net/url"
	"path/filepath"
	"time"

	"cfgd/config"
	"cfgd/internal/flock"
)

// lockWithin is how long a command waits for another one at the same prototype.
const lockWithin = time.Minute

// Lock takes the lock of a prototype for one process alone. Whoever takes or destroys a snapshot, relocates
// files or destroys the prototype holds it, from the first look to the last step.
func Lock(ctx context.Context, m *config.Model, name string) (unlock func(), err error) {
	return flock.Lock(ctx, lockFile(m, name), "prototype "+name, lockWithin)
}

// LockShared takes the lock of a prototype for one of several users of its snapshots. Whoever puts a jail
// on a snapshot holds it, from the check that the snapshot exists until an fstab names it: from then on
// nothing destroys the snapshot.
func LockShared(ctx context.Context, m *config.Model, name string) (unlock func(), err error) {
	return flock.LockShared(ctx, lockFile(m, name), "prototype "+name, lockWithin)
}

// lockFile returns the name of a file of its own for each prototype. Of two roots that end alike, one gives
// its prototype its whole path as a name, jail/proto, and a third prototype may be named jail.
func lockFile(m *config.Model, name string) string {
	return filepath.Join(m.RunDir(), "prototype", url.PathEscape(name))
}
