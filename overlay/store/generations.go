package store

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// generationDir has the manifests of earlier generations, in .cfgd/generations/N.
type generationDir struct{ *metaDir }

// read reads the manifest of a generation.
func (g generationDir) read(n int) (m *Manifest, err error) {
	err = g.within(generationsDir, func(d *dirfd.Dir) error {
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
	err := g.within(generationsDir, func(d *dirfd.Dir) error {
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
	return g.within(generationsDir, func(d *dirfd.Dir) error {
		if err := tmp.Rename(name, d, strconv.Itoa(m.Generation)); err != nil {
			return err
		}
		return d.Sync()
	})
}

// drop removes generations. The caller syncs.
func (g generationDir) drop(numbers []int) error {
	return g.within(generationsDir, func(d *dirfd.Dir) error {
		for _, n := range numbers {
			if err := d.Unlink(strconv.Itoa(n)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (g generationDir) sync() error { return g.within(generationsDir, (*dirfd.Dir).Sync) }

// HoldsGeneration reports whether the store in a cfg holds a generation, which its number and its time
// identify together. Number 0 means that nothing was saved yet. It reads as little as it needs, and writes
// nothing.
func HoldsGeneration(cfg *dirfd.Dir, n int, when time.Time) (bool, error) {
	meta, err := cfg.Dir(tree.MetaName)
	if err != nil {
		return false, tree.IgnoreGone(err)
	}
	defer meta.Close()
	if is, err := isGeneration(meta, manifestFile, n, when); err != nil || is {
		return is, err
	}
	gens, err := meta.Dir(generationsDir)
	if err != nil {
		return false, tree.IgnoreGone(err)
	}
	defer gens.Close()
	if n > 0 {
		return isGeneration(gens, strconv.Itoa(n), n, when)
	}
	names, err := gens.Names() // nothing was saved yet: the store must be as empty
	if err != nil || len(names) > 0 {
		return false, err
	}
	if _, err = meta.Stat(manifestFile); err == nil {
		return false, nil
	}
	if _, err := meta.Stat(formatFile); err != nil {
		return false, tree.IgnoreGone(err)
	}
	return true, nil
}

// isGeneration reports whether a manifest is of that generation. It reads only the first line.
func isGeneration(d *dirfd.Dir, name string, n int, when time.Time) (bool, error) {
	f, err := d.OpenFile(name)
	if err != nil {
		return false, tree.IgnoreGone(err)
	}
	defer f.Close()
	first, err := bufio.NewReader(io.LimitReader(f, MaxManifest)).ReadBytes('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	m, _, err := parseHeader(first)
	if err != nil {
		return false, nil // torn, or not a manifest
	}
	return m.Generation == n && m.Time.Equal(when), nil
}
