package store

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Step is one change that a commit makes to the plain tree or to .cfgd after its journal is stable. Each step
// can be repeated after it was done, wholly or half.
type Step struct {
	Do   string     // rm, rmdir, mkdir, put, meta, times, install
	Path string     // below cfg; for install a file of .cfgd
	From string     // for put and install: a name in .cfgd/tmp
	Want tree.Entry // for put: kind, digest or link; for meta: mode, owner and time; for times: time
}

// The values of Step.Do.
const (
	DoRm      = "rm"      // unlink a file or link
	DoRmdir   = "rmdir"   // remove a directory, if it is empty
	DoMkdir   = "mkdir"   // make a directory
	DoPut     = "put"     // rename from tmp to its place
	DoMeta    = "meta"    // a directory's mode, owner, attributes and time
	DoTimes   = "times"   // a file's or link's time
	DoInstall = "install" // rename from tmp to manifest or removed
)

// JournalHeader is the first line of a journal.
type JournalHeader struct {
	Journal int    `json:"journal"` // FormatVersion
	Steps   int    `json:"steps"`
	Digest  string `json:"digest"` // SHA-256 of the lines that follow
}

type journalLine struct {
	Do   string `json:"do"`
	From string `json:"from,omitempty"`
	line
}

// EncodeJournal returns a journal: JSON Lines, a header and one line for each step.
func EncodeJournal(steps []Step) ([]byte, error) {
	var body, out bytes.Buffer
	for _, st := range steps {
		l := journalLine{Do: st.Do, From: st.From, line: *lineOf(&st.Want)}
		l.JSON = pathname.FromPath(st.Path)
		if err := encodeLine(&body, l); err != nil {
			return nil, err
		}
	}
	h := JournalHeader{FormatVersion, len(steps), tree.Digest(sha256.Sum256(body.Bytes())).String()}
	if err := encodeLine(&out, h); err != nil {
		return nil, err
	}
	out.Write(body.Bytes())
	return out.Bytes(), nil
}

var tmpName = regexp.MustCompile(`^[a-z0-9]{1,24}$`)

// ParseJournal reads a journal and checks all of it: names in tmp are plain, paths stay below cfg, count and
// digest are right.
func ParseJournal(b []byte) ([]Step, error) {
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, len(b)+1) // one line may be as long as the text: it can list thousands of held paths
	var h JournalHeader
	if !sc.Scan() {
		return nil, errors.New("journal:1: no header")
	}
	if err := json.Unmarshal(sc.Bytes(), &h); err != nil {
		return nil, fmt.Errorf("journal:1: %w", err)
	}
	if h.Journal != FormatVersion {
		return nil, fmt.Errorf("journal:1: format %d, this cfgd knows %d", h.Journal, FormatVersion)
	}
	if tree.Digest(sha256.Sum256(b[min(len(sc.Bytes())+1, len(b)):])).String() != h.Digest {
		return nil, errors.New("journal:1: torn: the lines do not have the digest that the header gives")
	}
	var steps []Step
	for n := 2; sc.Scan(); n++ {
		st, err := parseStep(sc.Bytes())
		if err != nil {
			return nil, fmt.Errorf("journal:%d: %w", n, err)
		}
		steps = append(steps, st)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if len(steps) != h.Steps {
		return nil, fmt.Errorf("journal:1: %d steps follow where the header says %d", len(steps), h.Steps)
	}
	return steps, nil
}

func parseStep(b []byte) (Step, error) {
	var l journalLine
	if err := json.Unmarshal(b, &l); err != nil {
		return Step{}, err
	}
	name, err := l.Name()
	if err != nil {
		return Step{}, err
	}
	st := Step{Do: l.Do, Path: name, From: l.From}
	if st.From != "" && !tmpName.MatchString(st.From) {
		return st, fmt.Errorf("from %q: not a name of tmp", st.From)
	}
	switch st.Do {
	case DoInstall:
		if name != ManifestFile && name != RemovedFile || st.From == "" {
			return st, fmt.Errorf("install %q: neither manifest nor removed", name)
		}
		return st, nil
	case DoPut:
		if st.From == "" {
			return st, errors.New("put without from")
		}
	case DoRm, DoRmdir, DoMkdir, DoMeta, DoTimes:
	default:
		return st, fmt.Errorf("do %q: no such step", st.Do)
	}
	if err := pathname.Valid(name); err != nil {
		return st, err
	}
	if l.Kind == dirfd.KindNone.String() {
		return st, nil
	}
	e, err := l.entry(name)
	if err != nil {
		return st, err
	}
	st.Want = *e
	return st, nil
}

// recover finishes or undoes a commit that was interrupted, and empties tmp.
//
// A whole journal became stable after all that it names. So each put finds its file in tmp, or already in
// place. If it finds neither, the journal is forged or the disk lost a write. Then the steps that can be done
// are done, the journal is kept aside, and the plain tree is adopted as it is. A torn journal was never
// followed, so it is only dropped.
func (s *Store) recover() error {
	if s.Meta == nil {
		return nil
	}
	b, err := s.Meta.ReadFile(journalFile, MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return s.emptyTmp()
	}
	if s.ReadOnly {
		s.notice("%s: a save was interrupted and cannot be finished: nothing may be written here",
			s.Meta.Display(journalFile))
		return nil
	}
	var steps []Step
	if err == nil {
		steps, err = ParseJournal(b)
	}
	if err != nil {
		s.damage("%s: %v: kept aside", s.Meta.Display(journalFile), err)
		if err := s.putAside(journalFile); err != nil {
			return err
		}
		return s.emptyTmp()
	}
	lost, err := s.do(steps)
	if err != nil {
		return fmt.Errorf("finish the interrupted save: %w", err)
	}
	if len(lost) > 0 {
		s.damage("%s: names content that is not there (%s): kept aside", s.Meta.Display(journalFile),
			pathname.Quote(lost[0]))
		if err := s.putAside(journalFile); err != nil {
			return err
		}
	} else {
		s.notice("%s: finished a save that was interrupted", s.Meta.Display(journalFile))
		if err := s.endJournal(); err != nil {
			return err
		}
	}
	return s.emptyTmp()
}

// endJournal removes the journal after all its steps are done.
func (s *Store) endJournal() error {
	if err := s.Meta.Unlink(journalFile); err != nil {
		return err
	}
	return s.Meta.Sync()
}

// emptyTmp removes what an interrupted commit left, but not what is kept as damaged.
func (s *Store) emptyTmp() error {
	if s.ReadOnly {
		return nil
	}
	return s.within(tmpDir, func(tmp *dirfd.Dir) error {
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

// do performs steps and syncs every directory that they touched. It returns the paths of puts whose content
// was not found.
func (s *Store) do(steps []Step) (lost []string, err error) {
	tmp, err := s.Meta.Dir(tmpDir)
	if err != nil {
		return nil, err
	}
	defer tmp.Close()
	p := performer{store: s, tmp: tmp, touched: map[string]bool{"": true}}
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

type performer struct {
	store   *Store
	tmp     *dirfd.Dir
	touched map[string]bool // directories of the plain tree
	made    []string        // directories made since the last settle
	lost    []string
}

// settle makes new directories stable, topmost first. Otherwise a rename into one of them could lose its
// content for good: soft updates keep the new name, but not the path to a directory whose own name is not
// stable yet.
func (p *performer) settle() error {
	for _, dir := range p.made {
		d, err := p.store.Cfg.Walk(pathname.Parent(dir))
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
		err := p.tmp.Rename(st.From, p.store.Meta, st.Path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // done before
		}
		return err
	}
	d, err := p.store.Cfg.Walk(pathname.Parent(st.Path))
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
	if p.store.Plain != nil && p.store.Plain.NoXattrs {
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
		if err := d.Rename(name, p.tmp, p.store.damaged(p.tmp, "dir")); err != nil {
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
	if st.Size > p.store.Most() {
		return false // larger than what a save puts into cfg
	}
	got, err := tree.DigestOf(f, st.Size)
	return err == nil && got == want.Digest
}

// sync makes every touched directory of the plain tree, and .cfgd itself, stable.
func (p *performer) sync() error {
	for dir := range p.touched {
		d, err := p.store.Cfg.Walk(dir)
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
	return p.store.Meta.Sync()
}
