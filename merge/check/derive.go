package check

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"cfgd/internal/run"
	"cfgd/merge"
)

// Deriver makes the databases that are made from other files, with the system's programs, in a directory
// apart. What the programs read is the jail's, and they write nowhere near it.
type Deriver struct {
	Run run.Runner
	// of this target alone and always the same, so that a plan can name it: /var/run/cfgd/derive/vhost1
	Dir string
	Dry bool                      // only return what will run
	Has func(program string) bool // run.Has
}

// Derive makes what is made from a source. It returns the command even if its program is missing; the error
// is then exec.ErrNotFound.
func (d *Deriver) Derive(
	ctx context.Context, source string, content []byte,
) (made map[string][]byte, command string, err error) {
	i := slices.IndexFunc(merge.Products,
		func(p merge.Product) bool { return p.Source == source && len(p.Command) > 0 })
	if i < 0 {
		return nil, "", exec.ErrNotFound
	}
	p := merge.Products[i]
	cmd := run.Command(p.Command[0], slices.Clone(p.Command[1:])...)
	for n := range cmd.Args {
		cmd.Args[n] = strings.Replace(cmd.Args[n], "DIR", d.Dir, 1)
	}
	if !d.Has(p.Command[0]) {
		return nil, "", exec.ErrNotFound
	}
	if d.Dry {
		return nil, cmd.String(), merge.ErrPlanned
	}
	if err := os.RemoveAll(d.Dir); err != nil { // of an earlier run that was killed
		return nil, cmd.String(), err
	}
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return nil, cmd.String(), err
	}
	made, err = d.inDir(ctx, p, cmd, content)
	return made, cmd.String(), errors.Join(err, os.RemoveAll(d.Dir))
}

func (d *Deriver) inDir(
	ctx context.Context, p merge.Product, cmd run.Cmd, content []byte,
) (map[string][]byte, error) {
	if err := os.WriteFile(filepath.Join(d.Dir, filepath.Base(p.Source)), content, 0o600); err != nil {
		return nil, err
	}
	if _, err := d.Run.Run(ctx, cmd); err != nil {
		return nil, err
	}
	made := map[string][]byte{}
	for _, path := range p.Makes {
		b, err := os.ReadFile(filepath.Join(d.Dir, filepath.Base(path)))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		made[path] = b
	}
	return made, nil
}
