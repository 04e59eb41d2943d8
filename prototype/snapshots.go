package prototype

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"cfgd/config"
)

// Snapshot is a snapshot of a prototype.
type Snapshot struct {
	Name    string
	Time    time.Time
	Comment string
}

// Numbered reports whether the name is a number, as cfgd's names are.
func (s Snapshot) Numbered() bool {
	n, err := strconv.Atoi(s.Name)
	return err == nil && n > 0 && strconv.Itoa(n) == s.Name
}

// Snapshots lists, takes and destroys the snapshots of one prototype, by zfs(8) or as plain copies.
type Snapshots interface {
	// List lists them, oldest first.
	List(ctx context.Context) ([]Snapshot, error)
	Take(ctx context.Context, name, comment string) error
	Destroy(ctx context.Context, name string) error
	// InUse returns, by name, why snapshots cannot be destroyed: clones or holds keep them.
	InUse(ctx context.Context) (map[string]string, error)
	// TakePlan and DestroyPlan return what the two run, in words if it is no command.
	TakePlan(name, comment string) []string
	DestroyPlan(name string) []string
	// Mark is config.ZFSMark or config.CopyMark.
	Mark() string
}

// TakeNext takes the next snapshot of a prototype while it holds the prototype's lock, and returns its
// name. It refuses while packages are being installed.
func TakeNext(
	ctx context.Context, m *config.Model, p *config.Prototype, s Snapshots, comment string,
) (name string, err error) {
	unlock, err := Lock(ctx, m, p.Name)
	if err != nil {
		return "", err
	}
	defer unlock()
	all, err := s.List(ctx)
	if err != nil {
		return "", err
	}
	if err := checkPackages(m.Path(p.Root)); err != nil {
		return "", err
	}
	name = Next(all)
	return name, s.Take(ctx, name, comment)
}

// Next returns the name of the next snapshot: one more than the highest number.
func Next(all []Snapshot) string {
	n := 0
	for _, s := range all {
		if x, err := strconv.Atoi(s.Name); err == nil {
			n = max(n, x)
		}
	}
	return strconv.Itoa(n + 1)
}

// ErrPackages reports that a prototype's packages are being changed.
var ErrPackages = errors.New("packages are being installed or removed")

// checkPackages returns an error while a prototype's package database is being written: pkg(8) then keeps
// a SQLite journal beside it.
func checkPackages(root string) error {
	for _, name := range []string{"local.sqlite-journal", "local.sqlite-wal"} {
		full := filepath.Join(root, "var/db/pkg", name)
		if st, err := os.Lstat(full); err == nil && st.Size() > 0 {
			return fmt.Errorf("%w: %s is there; wait until pkg has ended", ErrPackages, full)
		}
	}
	return nil
}
