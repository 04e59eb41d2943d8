package jails

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"cfgd/config"
	"cfgd/internal/hostfile"
	"cfgd/internal/run"
)

// Creator makes jails, and undoes exactly what it made (destroy.go). The record is written before the
// first step.
type Creator struct {
	Model    *config.Model
	Run      run.Runner
	SaveHost func(ctx context.Context, path string) error // nil if the host's /etc is on a disk
	Reload   func() (*config.Model, error)
	// Locked runs f while nobody writes the cfg that is cloned. It is nil if no cfg is cloned.
	Locked func(ctx context.Context, f func() error) error
}

// lock takes the locks of what is made or destroyed.
func (k *Creator) lock(ctx context.Context, c *Creation) (unlock func(), err error) {
	if c.Prototype {
		return lockPrototype(ctx, k.Model, c.Jail)
	}
	return lockOn(ctx, k.Model, c.Jail, c.base)
}

// ErrExists reports that a part of a new jail exists already.
var ErrExists = errors.New("is there already")

// has reports whether a dataset or snapshot exists. It searches a list, because zfs(8) exits with 1 both
// if a name does not exist and if it cannot look, for example when a pool does not answer.
func has(ctx context.Context, r run.Runner, name string) (bool, error) {
	dataset, _, snapshot := strings.Cut(name, "@")
	there, err := listed(ctx, r, dataset, "-t", "filesystem,volume")
	if err != nil || !there || !snapshot {
		return there, err
	}
	return listed(ctx, r, name, "-t", "snapshot", "-d", "1", dataset)
}

// listed reports whether zfs list with these arguments prints the name.
func listed(ctx context.Context, r run.Runner, name string, args ...string) (bool, error) {
	out, err := r.Run(ctx, run.Command("zfs", append([]string{"list", "-H", "-o", "name"}, args...)...))
	if err != nil {
		return false, err
	}
	return slices.Contains(strings.Split(out, "\n"), name), nil
}

// save saves what changed in the host's etc to its cfg.
func (k *Creator) save(ctx context.Context, c *Creation) error {
	if k.SaveHost == nil {
		return nil
	}
	var errs []error
	for _, f := range c.Files {
		if p, ok := inEtc(k.Model, f.Name); ok {
			errs = append(errs, k.SaveHost(ctx, p))
		}
	}
	return errors.Join(errs...)
}

// inEtc returns the path in the host's /etc of what a file's name leads to. A link may lead there, as
// NanoBSD's /usr/local/etc does, and one of /etc may lead out.
func inEtc(m *config.Model, file string) (string, bool) {
	etc, err := filepath.EvalSymlinks(m.Path("/etc"))
	if err != nil {
		return "", false
	}
	full := m.Path(file)
	if real, err := filepath.EvalSymlinks(full); err == nil {
		return strings.CutPrefix(real, etc+"/")
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(full)) // of a file that was removed
	if err != nil {
		return "", false
	}
	return strings.CutPrefix(filepath.Join(dir, filepath.Base(file)), etc+"/")
}

func (k *Creator) record(name string) string {
	return filepath.Join(k.Model.Path("/var/db/cfgd/jails"), name+".json")
}

// note writes the record of what is being made or undone.
func (k *Creator) note(c *Creation) error {
	b, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return err
	}
	return hostfile.Write(k.record(c.Jail), append(b, '\n'), 0o600)
}

// Created reads what was made for a jail.
func (k *Creator) Created(name string) (*Creation, error) {
	b, err := hostfile.ReadFile(k.record(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf(
			"%s was not made by cfgd jail create or clone: it is not undone by cfgd either", name,
		)
	}
	if err != nil {
		return nil, err
	}
	var c Creation
	if err := json.Unmarshal(b, &c); err != nil || c.Jail != name {
		return nil, fmt.Errorf("%s: not the record of jail %s (%v)", k.record(name), name, err)
	}
	return &c, nil
}
