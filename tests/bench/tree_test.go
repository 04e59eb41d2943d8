package main

import (
	"context"
	"testing"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

func TestPlanHasTheSizeOfAnEtcWithPackages(t *testing.T) {
	entries, size := measure(plan(1, 1))
	if entries < 2700 || entries > 2900 || size < 23e6 || size > 27e6 {
		t.Errorf("%d entries, %d bytes; want about 2,800 and 25 MB", entries, size)
	}
}

func TestTreeIsTheSameForTheSameSeed(t *testing.T) {
	a, b, other := treeOf(t, 1), treeOf(t, 1), treeOf(t, 2)
	entries, _ := measure(plan(1, 0.03))
	if len(a.Entries) != entries {
		t.Errorf("%d entries, planned %d", len(a.Entries), entries)
	}
	if a.Digest() != b.Digest() {
		t.Error("two trees of one seed differ")
	}
	if a.Digest() == other.Digest() {
		t.Error("trees of two seeds are the same")
	}
	for i := range a.Entries {
		if a.Entries[i].MTime != b.Entries[i].MTime {
			t.Errorf("%s: two times", a.Entries[i].Path)
		}
	}
}

func treeOf(t *testing.T, seed uint64) *tree.Tree {
	dir := t.TempDir()
	if err := writeTree(dir, plan(seed, 0.03)); err != nil {
		t.Fatal(err)
	}
	d, err := dirfd.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	tree, err := tree.Scan(context.Background(), d, tree.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}
