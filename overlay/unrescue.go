package overlay

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// Unrescue brings the content of an archive of Rescue back into live, and saves it as a generation. It
// removes what the archive lists as removed. It checks all of the archive before it writes anything: names
// stay below live, and kinds are file, directory and symbolic link. An attribute that can't be set is left
// out and listed in Restored.Left.
func (o *Overlay) Unrescue(ctx context.Context, r io.Reader, message string) (done *Restored, err error) {
	x := &extract{contents: map[tree.Digest][]byte{}, only: []string{}, unknown: map[string]bool{}}
	if err := x.read(r); err != nil {
		return nil, err
	}
	err = o.atWork(ctx, func(w *opened) error {
		if w.v.NotPopulated != nil {
			return w.v.NotPopulated
		}
		done, err = w.unrescue(ctx, x, message)
		return err
	})
	return done, err
}

func (w *opened) unrescue(ctx context.Context, x *extract, message string) (*Restored, error) {
	if err := x.addParents(w.v.Live); err != nil {
		return nil, fmt.Errorf("archive: %w; nothing was changed", err)
	}
	r := newRestorer(x.over(w.v.Live), x.open)
	r.omitted = x.omitted
	r.choose(w.v, x.only)
	notices, made, err := w.remake(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("bring back: %w", err)
	}
	live, err := w.o.OpenLive()
	if err != nil {
		return nil, err
	}
	defer live.Close()
	if err := fits(r.changes, live); err != nil {
		return nil, fmt.Errorf("bring back: %w; nothing was changed", err)
	}
	if err := w.fitsCfg(r.want, x.only); err != nil {
		return nil, fmt.Errorf("bring back: %w; nothing was changed", err)
	}
	if err := r.run(ctx, live); err != nil {
		return nil, fmt.Errorf("bring back: %w", err)
	}
	done := &Restored{
		Changes: r.changes, Generation: w.s.Manifest.Generation, Left: r.omitted, Notices: notices,
	}
	if err := w.look(ctx, w.v.Base, LookOptions{}); err != nil {
		return done, err
	}
	saved, err := w.save(ctx, SaveOptions{Paths: append(x.only, made...), Force: true, Message: message})
	if saved != nil {
		done.Generation = saved.Generation
	}
	return done, err
}

// fitsCfg checks that cfg can be written to, and has room for what is saved once live is as wanted.
func (w *opened) fitsCfg(want *tree.Tree, paths []string) error {
	if w.s.ReadOnly {
		return fmt.Errorf("cfg %s: %w", w.o.Target.Cfg, ErrReadOnly)
	}
	live := &tree.Tree{Entries: slices.Clone(want.Entries), NoXattrs: want.NoXattrs}
	for i := range live.Entries { // as a scan will find it
		if e := &live.Entries[i]; w.o.Target.MaxFile > 0 && e.Size > w.o.Target.MaxFile &&
			e.Kind == dirfd.KindFile {
			e.Unread = tree.TooLarge
		}
	}
	v := *w.v
	v.Live = live
	_, p := (&opened{w.o, w.s, &v}).plan(SaveOptions{Paths: paths, Force: true}, nil, nil)
	return w.s.Fits(p)
}

// extract is an archive that was read.
type extract struct {
	entries  []tree.Entry
	removed  []string
	damaged  []string // files that the archive has not wholly
	only     []string // all paths of the archive
	contents map[tree.Digest][]byte
	bytes    int64
	omitted  []store.Kept    // attributes that can't be brought back
	unknown  map[string]bool // entries whose attributes the archive does not know
	marked   bool            // the archive marks entries without attributes
}

func (x *extract) read(r io.Reader) error {
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("archive: %w", err)
		}
		if h.Size > maxArchive-x.bytes {
			// tar(5) is read on behind it; a large file comes after all others
			x.omit(strings.TrimSuffix(h.Name, "/"), fmt.Sprintf("it is in the archive, and has %d MiB: "+
				"unpack it with tar(1)", h.Size>>20))
			continue
		}
		x.bytes += h.Size
		b, err := io.ReadAll(t)
		if err != nil {
			return fmt.Errorf("archive: %s: %w", pathname.Quote(h.Name), err)
		}
		if err := x.member(h, b); err != nil {
			return fmt.Errorf("archive: %s: %w", pathname.Quote(h.Name), err)
		}
	}
	return x.check()
}

// check sorts the entries and checks that they can be a tree.
func (x *extract) check() error {
	x.entries = slices.DeleteFunc(x.entries, func(e tree.Entry) bool {
		damaged := slices.Contains(x.damaged, e.Path)
		if damaged {
			x.omit(e.Path, "a part of it could not be read when the archive was made")
		}
		return damaged
	})
	slices.SortStableFunc(x.entries, func(a, b tree.Entry) int { return pathname.Compare(a.Path, b.Path) })
	slices.SortFunc(x.removed, pathname.Compare)
	kinds := map[string]dirfd.Kind{}
	for i := range x.entries {
		e := &x.entries[i]
		if _, twice := kinds[e.Path]; twice {
			return fmt.Errorf("archive: %s: in it more than once", pathname.Quote(e.Path))
		}
		for p := e.Path; p != ""; p = pathname.Parent(p) {
			if _, gone := slices.BinarySearchFunc(x.removed, p, pathname.Compare); gone {
				return fmt.Errorf("archive: %s: listed as removed, and in it", pathname.Quote(e.Path))
			}
			if k, ok := kinds[p]; ok && k != dirfd.KindDir {
				return fmt.Errorf("archive: %s: below a %s", pathname.Quote(e.Path), k)
			}
		}
		kinds[e.Path] = e.Kind
		x.only = append(x.only, e.Path)
	}
	x.only = append(x.only, x.removed...)
	return nil
}

// addParents adds the directories that neither the archive nor live has. The archive may be of another base,
// which had them.
func (x *extract) addParents(live *tree.Tree) error {
	known := map[string]bool{}
	for i := range x.entries {
		known[x.entries[i].Path] = true
	}
	uid, gid := tree.OwnIDs()
	for _, e := range slices.Clone(x.entries) {
		for p := pathname.Parent(e.Path); p != "" && !known[p]; p = pathname.Parent(p) {
			known[p] = true
			if have, ok := live.Get(p); ok && have.Kind != dirfd.KindDir {
				return fmt.Errorf("%s: %s is a %s in live", pathname.Quote(e.Path), pathname.Quote(p),
					have.Kind)
			} else if !ok {
				d := tree.Entry{Path: p, Kind: dirfd.KindDir, Mode: tree.UsualDir, UID: uid, GID: gid,
					MTime: e.MTime}
				x.entries = append(x.entries, d)
				x.only = append(x.only, p)
			}
		}
	}
	slices.SortFunc(x.entries, func(a, b tree.Entry) int { return pathname.Compare(a.Path, b.Path) })
	return nil
}

func (x *extract) member(h *tar.Header, b []byte) (err error) {
	lists := []string{RescueLeft, RescueRemoved, RescueDamaged}
	if slices.Contains(lists, h.Name) && h.Typeflag != tar.TypeReg {
		return errors.New("a list that is no file")
	}
	switch h.Name {
	case RescueLeft:
		return nil
	case RescueRemoved:
		x.removed, err = pathList(x.removed, string(b))
		return err
	case RescueDamaged:
		x.damaged, err = pathList(x.damaged, string(b))
		return err
	}
	e := tree.Entry{
		Path:  strings.TrimSuffix(h.Name, "/"),
		Mode:  uint32(h.Mode) & 0o7777,
		UID:   uint32(h.Uid),
		GID:   uint32(h.Gid),
		MTime: h.ModTime.UnixNano(),
	}
	if err := pathname.Valid(e.Path); err != nil {
		return err
	}
	if top, _, _ := strings.Cut(e.Path, "/"); tree.TopNames[top] {
		x.omit(e.Path, top+" is no part of what is saved")
		return nil
	}
	switch h.Typeflag {
	case tar.TypeReg:
		e.Kind, e.Size, e.Digest = dirfd.KindFile, int64(len(b)), tree.SumOf(b)
		x.contents[e.Digest] = b
	case tar.TypeDir:
		e.Kind = dirfd.KindDir
	case tar.TypeSymlink:
		e.Kind, e.Link = dirfd.KindSymlink, h.Linkname
	default:
		return errors.New("neither file, directory nor symbolic link")
	}
	if !tree.Privileged {
		e.UID, e.GID = tree.OwnIDs()
	}
	for _, why := range tree.FromTarRecords(&e, h) {
		x.omit(e.Path, "the archive's extended attribute "+why)
	}
	none := tree.HasNoXattrs(h)
	x.marked = x.marked || none
	x.unknown[e.Path] = e.Xattrs == "" && !none
	x.entries = append(x.entries, e)
	return nil
}

// pathList adds the paths of a list, one on each line.
func pathList(all []string, list string) ([]string, error) {
	for text := range strings.SplitSeq(strings.TrimSuffix(list, "\n"), "\n") {
		path, err := pathname.Unquote(text)
		if err == nil {
			err = pathname.Valid(path)
		}
		if err != nil {
			return nil, fmt.Errorf("%q: %w", text, err)
		}
		all = append(all, path)
	}
	return all, nil
}

// omit records something of a path that can't be brought back.
func (x *extract) omit(path, why string) {
	x.omitted = append(x.omitted, store.Kept{Path: path, Class: config.Report, Reason: tree.Reason(why)})
}

// over returns live with the archive's entries laid over it and its removals taken out.
func (x *extract) over(live *tree.Tree) *tree.Tree {
	// An older program's archive knows no attributes, and a present one not all of a file whose attributes
	// could not be read. Then live's attributes stay.
	known := slices.ContainsFunc(x.entries, func(e tree.Entry) bool { return e.Xattrs != "" })
	entries := slices.Clone(x.entries)
	for i := range entries {
		e := &entries[i]
		have, ok := live.Get(e.Path)
		if ok && have.Kind == e.Kind && x.unknown[e.Path] && (x.marked || !known) {
			e.Xattrs = have.Xattrs
		}
	}
	t := tree.Saved(live, &tree.Tree{Entries: entries}, nil)
	t.Entries = slices.DeleteFunc(t.Entries, func(e tree.Entry) bool {
		return slices.ContainsFunc(x.removed, func(p string) bool { return pathname.Within(e.Path, p) })
	})
	return t
}

func (x *extract) open(e *tree.Entry) (io.ReadCloser, error) {
	b, ok := x.contents[e.Digest]
	if !ok {
		return nil, fmt.Errorf("%s: not in the archive", pathname.Quote(e.Path))
	}
	return tree.ReaderOf(b), nil
}

// fits checks that live has room for what is to be put back, with each file beside the one it replaces.
func fits(changes []tree.Change, live *dirfd.Dir) error {
	space, err := live.Space()
	if err != nil {
		return err
	}
	block := int64(max(space.Block, 512))
	size := func(e *tree.Entry) int64 {
		if e == nil || e.Kind != dirfd.KindFile {
			return 0
		}
		return (e.Size + block - 1) / block * block
	}
	var need, most int64
	for _, c := range changes {
		if c.New == nil || c.Kind == tree.Type {
			need -= size(c.Old) // removed before anything is written
		}
	}
	for _, c := range changes {
		most = max(most, need+size(c.New))
		need += size(c.New)
		if c.New != nil && c.Kind != tree.Type {
			need -= size(c.Old)
		}
	}
	if most > 0 && uint64(most) > space.Free {
		return fmt.Errorf("live: %w: %d KiB are needed and %d KiB are free",
			store.ErrNoSpace, (most+1023)/1024, space.Free/1024)
	}
	return nil
}
