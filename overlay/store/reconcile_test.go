package store

import (
	"testing"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// A file in cfg never has flags: a directory that lacks base's flags alone was not changed by hand.
func TestDirectoryWithoutFlags(t *testing.T) {
	t.Parallel()
	dir := tree.Entry{Path: "d", Kind: dirfd.KindDir, Mode: 0o755}
	plain := &tree.Tree{Entries: []tree.Entry{dir}}
	flagged := dir
	flagged.Flags = dirfd.BindingFlags
	base := &Base{Tree: &tree.Tree{Entries: []tree.Entry{flagged}}}
	for mode, want := range map[uint32]bool{0o755: true, 0o700: false} {
		dir.Mode = mode
		if got := structural(&dir, plain, base, &Manifest{}); got != want {
			t.Errorf("mode %o: %v", mode, got)
		}
	}
}
