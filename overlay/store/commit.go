package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"cfgd/internal/dirfd"
)

// The order of a commit, and what a crash after each step leaves. "Stable" is said of what fsync(2) brought to the disk.
//
//	 1  room is counted; too little ends it with nothing done
//	 2  content goes to tmp/, each file written, given its metadata and fsynced      crash: tmp/ is emptied, the old generation stands
//	 3  superseded content and new defaults go to objects/, the old manifest to
//	    generations/: tmp/, fsync, rename, fsync of the directory                     crash: an object more than needed
//	 4  the new manifest and list of removals go to tmp/, fsynced
//	 5  tmp/ is fsynced                                                               crash: as in 2
//	 6  the journal goes to tmp/, fsynced, and is renamed to .cfgd/journal            crash: the journal is there, whole, or not
//	 7  .cfgd/ is fsynced: from here on the new generation stands
//	 8  each step: rename into place, unlink, mkdir; the manifest last                crash: the journal is followed again
//	 9  every directory touched is fsynced, then tmp/ and .cfgd/                      crash: as in 8
//	10  the journal is unlinked, .cfgd/ fsynced                                       crash: the journal is followed again, and finds all done
//
// Each rename replaces a whole file by a whole file, so that a stock tool that copies the plain tree between 8 and 10
// finds each file old or new.

// Commit makes next the current generation. stage fills tmp and returns the steps that bring it into the plain tree;
// old goes to the history, nil to keep none. Steps 2 to 7 can fail with nothing changed; a failure after them
// leaves the journal, and the commit is finished at the next opening.
func (s *Store) Commit(ctx context.Context, old, next *Manifest, stage func(tmp *dirfd.Dir) ([]Step, error)) error {
	tmp, err := s.Meta.Dir(tmpDir)
	if err != nil {
		return err
	}
	defer tmp.Close()
	steps, err := s.prepare(ctx, tmp, old, next, stage)
	if err != nil {
		if _, there := s.Meta.Stat(journalFile); errors.Is(there, fs.ErrNotExist) {
			_ = s.emptyTmp() // best effort: the next opening does it
		}
		return err
	}
	lost, err := s.do(steps) // 8, 9
	if err != nil {
		return fmt.Errorf("%w (the save is journalled and will be finished)", err)
	}
	if len(lost) > 0 {
		return fmt.Errorf("%s: vanished from .cfgd/tmp during the save", lost[0])
	}
	if err := s.endJournal(); err != nil { // 10
		return err
	}
	if s.stat, err = s.Meta.Stat(ManifestFile); err != nil {
		return err
	}
	s.Manifest = next
	return nil
}

// prepare is steps 2 to 7.
func (s *Store) prepare(ctx context.Context, tmp *dirfd.Dir, old, next *Manifest, stage func(*dirfd.Dir) ([]Step, error)) ([]Step, error) {
	steps, err := stage(tmp) // 2, 3: objects
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.noteRefused(tmp, next, steps); err != nil {
		return nil, err
	}
	if old != nil && old.Generation > 0 && old.Generation < next.Generation { // 0 is a store that is new
		if err := s.keepManifest(tmp, old); err != nil { // 3: generations
			return nil, err
		}
	}
	installs, err := s.stageManifest(tmp, next) // 4
	if err != nil {
		return nil, err
	}
	steps = append(steps, installs...)
	if err := tmp.Sync(); err != nil { // 5
		return nil, err
	}
	text, err := ReadableJournal(steps)
	if err != nil {
		return nil, err
	}
	if err := WriteSynced(tmp, journalFile, text); err != nil { // 6
		return nil, err
	}
	if err := tmp.Rename(journalFile, s.Meta, journalFile); err != nil {
		return nil, err
	}
	if err := s.Meta.Sync(); err != nil { // 7
		// Whether the journal is stable is unknown: take it back, so that an error means the old generation.
		if back := s.endJournal(); back != nil {
			return nil, fmt.Errorf("%w; and the journal could not be taken back: %w", err, back)
		}
		return nil, err
	}
	return steps, nil
}

func (s *Store) stageManifest(tmp *dirfd.Dir, next *Manifest) ([]Step, error) {
	text, err := next.readable()
	if err != nil {
		return nil, err
	}
	if err := Fits("list of removals", next.RemovedText(), MaxManifest); err != nil {
		return nil, err
	}
	if err := WriteSynced(tmp, ManifestFile, text); err != nil {
		return nil, err
	}
	if err := WriteSynced(tmp, RemovedFile, next.RemovedText()); err != nil {
		return nil, err
	}
	return []Step{{Do: DoInstall, Path: RemovedFile, From: RemovedFile}, {Do: DoInstall, Path: ManifestFile, From: ManifestFile}}, nil
}

// Save carries out a plan: it makes room, copies what live holds of it, and makes the plan's manifest the current
// generation. An *UnsettledError names what changed while it was copied.
func (s *Store) Save(ctx context.Context, live *dirfd.Dir, p *Plan) error {
	if err := s.makeRoom(ctx, p); err != nil {
		return err
	}
	err := s.Commit(ctx, s.Manifest, p.Next, func(tmp *dirfd.Dir) ([]Step, error) {
		return s.stage(tmp, fromLive{live, tmp}.one, p)
	})
	return noSpace(err)
}

// keepManifest puts the manifest of a generation that ends into generations/.
func (s *Store) keepManifest(tmp *dirfd.Dir, m *Manifest) error {
	text, err := m.readable()
	if err != nil {
		return fmt.Errorf("generation %d: %w", m.Generation, err)
	}
	const name = "generation"
	if err := WriteSynced(tmp, name, text); err != nil {
		return err
	}
	return s.within(Generations, func(d *dirfd.Dir) error {
		if err := tmp.Rename(name, d, strconv.Itoa(m.Generation)); err != nil {
			return err
		}
		return d.Sync()
	})
}

// Install is a commit that changes no file of the plain tree: an adoption, or a change of what is pinned or held.
func (s *Store) Install(ctx context.Context, old, next *Manifest) error {
	return s.Commit(ctx, old, next, func(tmp *dirfd.Dir) ([]Step, error) {
		return nil, s.keepDefaults(tmp, next)
	})
}

// nextName is a fresh name in tmp.
func (s *Store) nextName() string {
	s.serial++
	return strconv.Itoa(s.serial)
}
