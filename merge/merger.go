package merge

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Tools are what a merge needs of the system. Each may be nil; the notes then say what was not done.
type Tools struct {
	// Check returns what a checker says against a content, "" for nothing. skipped says why the checker did
	// not run.
	Check func(ctx context.Context, path string, content []byte) (problem, skipped string)
	// Derive makes the files that are made from another, such as pwd.db from master.passwd. command is what
	// runs, or with ErrPlanned what will run. exec.ErrNotFound means that the system has no such program.
	Derive func(
		ctx context.Context, source string, content []byte,
	) (made map[string][]byte, command string, err error)
}

// ErrPlanned is what Tools.Derive returns for a plan: the command runs when the plan is carried out.
var ErrPlanned = errors.New("planned")

// Merger merges a generation of cfg with another base. Run does it, once.
type Merger struct {
	Base   *store.Base     // the new base
	Cfg    *store.Manifest // the generation
	Policy config.OnConflict
	Class  func(path string) config.Class
	// reads what cfg or an earlier generation holds, by path and digest
	Read   func(e *tree.Entry) ([]byte, error)
	Tools  Tools
	Texts  *sync.Map // merged texts, shared by the targets of a Bases
	Xattrs bool
	Max    int64 // bytes; larger contents are not merged
	Now    time.Time
	Etc    string // live's path, for notes

	Prior *PriorBase // nil if cfg was never on this base

	mu    sync.Mutex
	fresh map[tree.Digest][]byte // contents that the merge made, guarded by mu
}

// same compares two versions in all but time. Attributes count for files only, because those of other
// defaults were not read.
func (w *Merger) same(a, b *tree.Entry) bool {
	return store.Same(a, b, w.Xattrs && a.Kind == dirfd.KindFile && b.Kind == dirfd.KindFile)
}

// made returns a file of new content with the metadata of like.
func (w *Merger) made(path string, content []byte, like *tree.Entry) tree.Entry {
	e := *like
	e.Path, e.Kind, e.Link, e.Unread = path, dirfd.KindFile, "", ""
	e.ClearStamp()
	e.Size, e.Digest, e.MTime = int64(len(content)), tree.SumOf(content), w.Now.UnixNano()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fresh == nil {
		w.fresh = map[tree.Digest][]byte{}
	}
	w.fresh[e.Digest] = content
	return e
}

// content reads a content from the merge, cfg, an earlier generation or base.
func (w *Merger) content(e *tree.Entry) ([]byte, error) {
	w.mu.Lock()
	b, ok := w.fresh[e.Digest]
	w.mu.Unlock()
	if ok && e.Kind == dirfd.KindFile {
		return b, nil
	}
	b, err := w.Read(e)
	if err == nil || e.Kind != dirfd.KindFile {
		return b, err
	}
	if d := w.Base.Here(e); d != nil {
		return w.Base.Content(d)
	}
	return nil, err
}

// Open is content as a reader.
func (w *Merger) Open(e *tree.Entry) (io.ReadCloser, error) {
	b, err := w.content(e)
	return tree.ReaderOf(b), err
}
