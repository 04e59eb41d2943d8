package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// recover finishes or undoes a commit that was interrupted, and empties tmp.
//
// A whole journal became stable after all that it names. So each put finds its file in tmp, or already in
// place. If it finds neither, the journal is forged or the disk lost a write. Then the steps that can be done
// are done, the journal is kept aside, and the plain tree is adopted as it is. A torn journal was never
// followed, so it is only dropped.
func (m *metaDir) recover() error {
	if m.Meta == nil {
		return nil
	}
	b, err := m.Meta.ReadFile(journalFile, MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return m.emptyTmp()
	}
	if m.ReadOnly {
		m.notice("%s: a save was interrupted and cannot be finished: nothing may be written here",
			m.Meta.Display(journalFile))
		return nil
	}
	var steps []Step
	if err == nil {
		steps, err = parseJournal(b)
	}
	if err != nil {
		m.damage("%s: %v: kept aside", m.Meta.Display(journalFile), err)
		if err := m.putAside(journalFile); err != nil {
			return err
		}
		return m.emptyTmp()
	}
	lost, err := performSteps(m, steps, false)
	if err != nil {
		return fmt.Errorf("finish the interrupted save: %w", err)
	}
	if len(lost) > 0 {
		m.damage("%s: names content that is not there (%s): kept aside", m.Meta.Display(journalFile),
			pathname.Quote(lost[0]))
		if err := m.putAside(journalFile); err != nil {
			return err
		}
	} else {
		m.notice("%s: finished a save that was interrupted", m.Meta.Display(journalFile))
		if err := m.endJournal(); err != nil {
			return err
		}
	}
	return m.emptyTmp()
}

// endJournal removes the journal after all its steps are done.
func (m *metaDir) endJournal() error {
	if err := m.Meta.Unlink(journalFile); err != nil {
		return err
	}
	return m.Meta.Sync()
}

// emptyTmp removes what an interrupted commit left, but not what is kept as damaged.
func (m *metaDir) emptyTmp() error {
	if m.ReadOnly {
		return nil
	}
	return m.within(tmpDir, func(tmp *dirfd.Dir) error {
		names, err := tmp.Names()
		for _, name := range names {
			if strings.HasPrefix(name, DamagedName) {
				continue
			}
			if err := tmp.RemoveAll(name); err != nil {
				return err
			}
		}
		return err
	})
}

// performSteps performs steps and syncs every directory that they touched. It returns the paths of puts
// whose content was not found. noXattrs says that cfg's filesystem has no extended attributes.
func performSteps(m *metaDir, steps []Step, noXattrs bool) (lost []string, err error) {
	tmp, err := m.Meta.Dir(tmpDir)
	if err != nil {
		return nil, err
	}
	defer tmp.Close()
	p := performer{metaDir: m, tmp: tmp, noXattrs: noXattrs, touched: map[string]bool{"": true}}
	for _, st := range steps {
		if st.Do == DoInstall && len(p.lost) > 0 {
			continue
		}
		if err := p.perform(st); err != nil {
			return nil, err
		}
	}
	if err := p.sync(); err != nil {
		return nil, err
	}
	return p.lost, nil
}

// performer performs the steps of a journal.
type performer struct {
	*metaDir
	tmp      *dirfd.Dir
	noXattrs bool
	touched  map[string]bool // directories of the plain tree
	made     []string        // directories made since the last settle
	lost     []string
}

// settle makes new directories stable, topmost first. Otherwise a rename into one of them could lose its
// content for good: soft updates keep the new name, but not the path to a directory whose own name is not
// stable yet.
func (p *performer) settle() error {
	for _, dir := range p.made {
		d, err := p.Cfg.Walk(pathname.Parent(dir))
		if err == nil {
			err = d.Sync()
			d.Close()
		}
		if tree.IgnoreGone(err) != nil {
			return err
		}
	}
	p.made = nil
	return nil
}

func (p *performer) perform(st Step) error {
	if st.Do == DoInstall {
		err := p.tmp.Rename(st.From, p.Meta, st.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // done before
		}
		return err
	}
	d, err := p.Cfg.Walk(pathname.Parent(st.Path))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || tree.NotSame(err) {
			if st.Do == DoPut {
				p.lost = append(p.lost, st.Path)
			}
			return nil
		}
		return err
	}
	defer d.Close()
	if err := tree.OpenUp(d); err != nil {
		return err
	}
	p.touched[pathname.Parent(st.Path)] = true
	return p.at(d, path.Base(st.Path), st)
}

func (p *performer) at(d *dirfd.Dir, name string, st Step) error {
	switch st.Do {
	case DoRm:
		return tree.IgnoreGone(tree.RemoveFile(d, name))
	case DoRmdir:
		return tree.IgnoreGone(d.Rmdir(name))
	case DoMkdir:
		p.touched[st.Path] = true
		p.made = append(p.made, st.Path)
		return tree.MakeDir(d, name)
	case DoPut:
		if err := p.settle(); err != nil {
			return err
		}
		return p.put(d, name, st)
	case DoTimes:
		return tree.IgnoreGone(setTime(d, name, &st.Want))
	}
	p.touched[st.Path] = true
	sub, err := d.Dir(name)
	if err != nil {
		return tree.IgnoreGone(err)
	}
	defer sub.Close()
	if p.noXattrs {
		return tree.SetDir(sub, &st.Want, nil)
	}
	return tree.ResetDir(sub, &st.Want, nil)
}

// setTime sets the time of a file or link that is already in place. It syncs a file, because syncing the
// directory does not.
func setTime(d *dirfd.Dir, name string, e *tree.Entry) error {
	if err := d.Utimes(name, e.MTime); err != nil || e.Kind != dirfd.KindFile {
		return err
	}
	f, err := d.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// put renames content into place. A directory that stands there with unknown content is kept aside.
func (p *performer) put(d *dirfd.Dir, name string, st Step) error {
	if _, err := p.tmp.Stat(st.From); errors.Is(err, fs.ErrNotExist) {
		if !p.done(d, name, &st.Want) {
			p.lost = append(p.lost, st.Path)
		}
		return nil
	}
	at, err := d.Stat(name)
	switch {
	case err == nil && at.Kind == dirfd.KindDir:
		if err := d.Rename(name, p.tmp, p.damaged(p.tmp, "dir")); err != nil {
			return err
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return p.tmp.Rename(st.From, d, name)
}

// done reports whether the put was done before: its content is in place.
func (p *performer) done(d *dirfd.Dir, name string, want *tree.Entry) bool {
	st, err := d.Stat(name)
	if err != nil || st.Kind != want.Kind {
		return false
	}
	if want.Kind == dirfd.KindSymlink {
		link, err := d.Readlink(name)
		return err == nil && link == want.Link
	}
	f, err := d.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	if st.Size > p.Most() {
		return false // larger than what a save puts into cfg
	}
	got, err := tree.DigestOf(f, st.Size)
	return err == nil && got == want.Digest
}

// sync makes every touched directory of the plain tree, and .cfgd itself, stable.
func (p *performer) sync() error {
	for dir := range p.touched {
		d, err := p.Cfg.Walk(dir)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) || tree.NotSame(err) {
				continue // removed by a later step; its parent is touched too
			}
			return err
		}
		err = d.Sync()
		d.Close()
		if err != nil {
			return err
		}
	}
	if err := p.tmp.Sync(); err != nil {
		return err
	}
	return p.Meta.Sync()
}
