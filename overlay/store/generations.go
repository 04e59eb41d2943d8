package store

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"

	"cfgd/internal/dirfd"
)

// generationDir has the manifests of earlier generations, in .cfgd/generations/N.
type generationDir struct{ *metaDir }

// read reads the manifest of a generation.
func (g generationDir) read(n int) (m *Manifest, err error) {
	err = g.within(Generations, func(d *dirfd.Dir) error {
		b, err := d.ReadFile(strconv.Itoa(n), MaxManifest)
		if err != nil {
			return err
		}
		m, err = ParseManifest(b)
		return err
	})
	return m, err
}

// numbers lists the generations, oldest first.
func (g generationDir) numbers() ([]int, error) {
	if g.Meta == nil {
		return nil, nil
	}
	var out []int
	err := g.within(Generations, func(d *dirfd.Dir) error {
		names, err := d.Names()
		for _, name := range names {
			if n, err := strconv.Atoi(name); err == nil && n > 0 && strconv.Itoa(n) == name {
				out = append(out, n)
			}
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	slices.Sort(out)
	return out, err
}

// keep copies the manifest of the generation that ends.
func (g generationDir) keep(tmp *dirfd.Dir, m *Manifest) error {
	text, err := m.readable()
	if err != nil {
		return fmt.Errorf("generation %d: %w", m.Generation, err)
	}
	const name = "generation"
	if err := WriteSynced(tmp, name, text); err != nil {
		return err
	}
	return g.within(Generations, func(d *dirfd.Dir) error {
		if err := tmp.Rename(name, d, strconv.Itoa(m.Generation)); err != nil {
			return err
		}
		return d.Sync()
	})
}

// drop removes generations. The caller syncs.
func (g generationDir) drop(numbers []int) error {
	return g.within(Generations, func(d *dirfd.Dir) error {
		for _, n := range numbers {
			if err := d.Unlink(strconv.Itoa(n)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (g generationDir) sync() error { return g.within(Generations, (*dirfd.Dir).Sync) }
