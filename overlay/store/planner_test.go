package store

import (
	"slices"
	"testing"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// Flags that cfg's filesystem does not have are kept like those it has, because a file in cfg never has
// flags.
func TestFlagsStandInTheManifest(t *testing.T) {
	t.Parallel()
	file := func(p string, content string, flags uint32) tree.Entry {
		d := tree.SumOf([]byte(content))
		return tree.Entry{Path: p, Kind: dirfd.KindFile, Mode: 0o644, Size: 1, Digest: d, Flags: flags}
	}
	const uchg, uappnd, uunlnk, schg = 0x2, 0x4, 0x10, 0x20000
	for _, flags := range []uint32{uchg, uappnd, uunlnk, schg, schg | uchg} {
		base := &tree.Tree{
			Entries: []tree.Entry{file("a", "1", 0), {Path: "d", Kind: dirfd.KindDir, Mode: 0o755}},
		}
		dir := tree.Entry{Path: "d", Kind: dirfd.KindDir, Mode: 0o755, Flags: flags}
		live := &tree.Tree{Entries: []tree.Entry{file("a", "1", flags), dir, file("d/b", "2", flags)}}
		plan := func(plain *tree.Tree, m *Manifest) *Plan {
			w := &Planner{
				Base:  base,
				Saved: tree.Saved(base, plain, m.Removals),
				Live:  live,
				Plain: plain,
				Old:   m,
				Only:  OnlyBelow(nil),
				Class: func(string) config.Class { return config.Persist },
			}
			return w.Plan()
		}
		first := plan(&tree.Tree{}, &Manifest{})
		plain := &tree.Tree{}
		for _, o := range first.Next.Overrides {
			plain.Entries = append(plain.Entries, *plainEntry(&o.Entry))
		}
		text, err := first.Next.Encode()
		if first.Next.Generation = 1; err == nil {
			first.Next.Time = first.Next.Time.AddDate(2000, 0, 0)
			text, err = first.Next.Encode()
		}
		if err != nil {
			t.Fatal(err)
		}
		m, err := ParseManifest(text)
		if err != nil {
			t.Fatal(err)
		}
		whole := WithManifest(base, plain, m)
		if c := tree.Delta(tree.Saved(base, whole, m.Removals), live); len(c) > 0 {
			t.Errorf("%x: after a start %v", flags, c)
		}
		if p := plan(whole, m); !p.Empty() {
			t.Errorf("%x: the second save puts %+v", flags, p.Puts)
		}
	}
}

// A live tree without attributes removes none from cfg, whatever else of a directory is saved.
func TestLiveWithoutAttributes(t *testing.T) {
	t.Parallel()
	for _, without := range []bool{true, false} {
		dir := tree.Entry{Path: "d", Kind: dirfd.KindDir, Mode: 0o755}
		base := &tree.Tree{Entries: []tree.Entry{dir}}
		dir.Xattrs = tree.PackXattrs([]dirfd.Xattr{{Name: "user.one", Value: []byte("1")}})
		plain := &tree.Tree{Entries: []tree.Entry{dir}}
		live := &tree.Tree{
			Entries:  []tree.Entry{{Path: "d", Kind: dirfd.KindDir, Mode: 0o700}},
			NoXattrs: without,
		}
		w := &Planner{
			Base:  base,
			Saved: tree.Saved(base, plain, nil),
			Live:  live,
			Plain: plain,
			Force: true,
			Only:  OnlyBelow(nil),
			Old: &Manifest{
				Overrides: []Override{{Entry: dir}},
			},
			Class: func(string) config.Class { return config.Persist },
		}
		p := w.Plan()
		want := ""
		if without {
			want = dir.Xattrs
		}
		if len(p.Puts) != 1 || p.Puts[0].Mode != 0o700 || p.Puts[0].Xattrs != want {
			t.Errorf("without %v: %+v", without, p.Puts)
		}
	}
}

// If live's filesystem has no attributes at all, saved ones stay: of a file that differs from the default in
// nothing else, of an edited file, and of a directory. A new file has none.
func TestAttributesOfLiveWithoutAny(t *testing.T) {
	t.Parallel()
	attr := tree.PackXattrs([]dirfd.Xattr{{Name: "user.one", Value: []byte("1")}})
	dir := tree.Entry{Path: "d", Kind: dirfd.KindDir, Mode: 0o755}
	only, edited := tree.Entry{
		Path: "d/only",
		Kind: dirfd.KindFile,
		Size: 1,
	}, tree.Entry{
		Path: "d/edited",
		Kind: dirfd.KindFile,
		Size: 1,
	}
	added := tree.Entry{Path: "d/added", Kind: dirfd.KindFile, Size: 3}
	base := &tree.Tree{Entries: []tree.Entry{dir, edited, only}}
	plain := &tree.Tree{Entries: slices.Clone(base.Entries)}
	m := &Manifest{}
	for i := range plain.Entries {
		plain.Entries[i].Xattrs = attr
		m.Overrides = append(m.Overrides, Override{Entry: plain.Entries[i], Default: &base.Entries[i]})
	}
	now := edited
	now.Size = 2
	scan := &tree.Tree{Entries: []tree.Entry{dir, added, now, only}, NoXattrs: true}
	saved := tree.Saved(base, plain, nil)
	w := &Planner{
		Base:  base,
		Saved: saved,
		Live:  scan.WithRefused(nil, saved),
		Plain: plain,
		Force: true,
		Only:  OnlyBelow(nil),
		Old:   m,
		Class: func(string) config.Class { return config.Persist },
	}
	p := w.Plan()
	if len(p.Drops) > 0 || len(p.Changes) != 2 {
		t.Errorf("dropped %v, changes %v", p.Drops, p.Changes)
	}
	for path, want := range map[string]string{"d": attr, "d/only": attr, "d/edited": attr, "d/added": ""} {
		if o, ok := p.Next.Override(path); !ok || o.Xattrs != want {
			t.Errorf("%s: %q, %v", path, o.Xattrs, ok)
		}
	}
}
