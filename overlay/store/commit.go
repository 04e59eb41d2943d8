package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"cfgd/internal/dirfd"
)

// The order of a commit, and what a crash after each step leaves. "Stable" means that fsync(2) returned.
//
// 	 1  count the room (carryOut); if there is too little, the oldest history goes, and if that is not
// 	    enough the commit ends with nothing else done. An Install, which changes no file of the plain
// 	    tree, skips this step
// 	 2  write content to tmp/, set its metadata, fsync each file
// 	        crash: the next opening empties tmp/; the old generation stands
// 	 3  put replaced content and new defaults into objects/, the old manifest into
// 	    generations/: write to tmp/, fsync, rename, fsync the directory
// 	        crash: objects/ holds an object too many
// 	 4  write the new manifest and the list of removals to tmp/, fsync them
// 	 5  fsync tmp/
// 	        crash: as in 2
// 	 6  write the journal to tmp/, fsync it, rename it to .cfgd/journal
// 	        crash: the journal is there, whole, or not there
// 	 7  fsync .cfgd/: from here on the new generation stands
// 	 8  do each step: rename into place, unlink, mkdir; the manifest comes last
// 	        crash: the next opening follows the journal again
// 	 9  fsync each directory that was touched, then tmp/ and .cfgd/
// 	        crash: as in 8
// 	10  unlink the journal, fsync .cfgd/
// 	        crash: the next opening follows the journal again, and finds all done
//
// Each rename replaces a whole file by a whole file. So a stock tool that copies the plain tree between
// 8 and 10 gets each file old or new, never half.

// Commit makes next the current generation. stage fills tmp and returns the steps that bring it into the
// plain tree. old goes to the history; nil keeps none. If a step up to 7 fails, nothing is changed. If a
// later one fails, the journal stays, and the next opening finishes the commit.
func (s *Store) Commit(
	ctx context.Context, old, next *Manifest, stage func(tmp *dirfd.Dir) ([]Step, error),
) error {
	tmp, err := s.Meta.Dir(tmpDir)
	if err != nil {
		return err
	}
	defer tmp.Close()
	steps, err := s.prepare(ctx, tmp, old, next, stage)
	if err != nil {
		if _, there := s.Meta.Stat(journalFile); errors.Is(there, fs.ErrNotExist) {
			_ = s.emptyTmp() // best effort: the next opening does it too
		}
		return err
	}
	lost, err := performSteps(&s.metaDir, steps, s.Plain != nil && s.Plain.NoXattrs) // 8, 9
	if err != nil {
		return fmt.Errorf("%w (the save is journalled and will be finished)", err)
	}
	if len(lost) > 0 {
		return fmt.Errorf("%s: vanished from .cfgd/tmp during the save", lost[0])
	}
	if err := s.endJournal(); err != nil { // 10
		return err
	}
	if s.stat, err = s.Meta.Stat(manifestFile); err != nil {
		return err
	}
	s.Manifest = next
	return nil
}

// prepare does steps 2 to 7.
func (s *Store) prepare(
	ctx context.Context, tmp *dirfd.Dir, old, next *Manifest, stage func(*dirfd.Dir) ([]Step, error),
) ([]Step, error) {
	steps, err := stage(tmp) // 2, 3: objects
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	was := next.Refused
	if s.Manifest != nil {
		was = s.Manifest.Refused
	}
	if next.Refused, err = s.refusedBy(tmp, was, steps); err != nil {
		return nil, err
	}
	if old != nil && old.Generation > 0 && old.Generation < next.Generation { // generation 0 is a new store
		if err := s.generationDir().keep(tmp, old); err != nil { // 3: generations
			return nil, err
		}
	}
	installs, err := stageManifest(tmp, next) // 4
	if err != nil {
		return nil, err
	}
	steps = append(steps, installs...)
	if err := tmp.Sync(); err != nil { // 5
		return nil, err
	}
	text, err := readableJournal(steps)
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
		// It is not known whether the journal is stable. Remove it, so that an error means the old
		// generation.
		if back := s.endJournal(); back != nil {
			return nil, fmt.Errorf("%w; and the journal could not be taken back: %w", err, back)
		}
		return nil, err
	}
	return steps, nil
}

func stageManifest(tmp *dirfd.Dir, next *Manifest) ([]Step, error) {
	text, err := next.readable()
	if err != nil {
		return nil, err
	}
	if err := Fits("list of removals", next.RemovedText(), MaxManifest); err != nil {
		return nil, err
	}
	if err := WriteSynced(tmp, manifestFile, text); err != nil {
		return nil, err
	}
	if err := WriteSynced(tmp, removedFile, next.RemovedText()); err != nil {
		return nil, err
	}
	return []Step{
		{Do: DoInstall, Path: removedFile, From: removedFile},
		{Do: DoInstall, Path: manifestFile, From: manifestFile},
	}, nil
}

// Save carries out a plan. It makes room, copies the plan's files from live, and makes the plan's manifest
// the current generation. An *UnsettledError names the files that changed while they were copied.
func (s *Store) Save(ctx context.Context, live *dirfd.Dir, p *Plan) error {
	return s.carryOut(ctx, p, func(tmp *dirfd.Dir) ([]Step, error) {
		return s.stage(tmp, fromLive{live, tmp, p}.one, p)
	})
}

// carryOut makes room for a plan and commits it.
func (s *Store) carryOut(ctx context.Context, p *Plan, stage func(tmp *dirfd.Dir) ([]Step, error)) error {
	if err := s.makeRoom(ctx, p); err != nil {
		return err
	}
	return noSpace(s.Commit(ctx, s.Manifest, p.Next, stage))
}

// Install is a commit that changes no file of the plain tree: an adoption, or hand edits that live has taken.
func (s *Store) Install(ctx context.Context, old, next *Manifest) error {
	return s.Commit(ctx, old, next, func(tmp *dirfd.Dir) ([]Step, error) {
		return nil, s.objectDir().keepDefaults(tmp, s.Base, next)
	})
}
