package merge

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// If several paths can't be merged, the error names the first of them, whichever fails first: the daemon and
// the report would take another name for another problem.
func TestErrorNamesTheFirstPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := func(path, content string) tree.Entry {
			return tree.Entry{
				Path: path, Kind: dirfd.KindFile, Mode: 0o644, Size: 1, Digest: tree.SumOf([]byte(content)),
			}
		}
		m := &Merger{
			Base: store.NewBase("b@2", &tree.Tree{Entries: []tree.Entry{file("a", "2"), file("b", "2")}}),
			Cfg: &store.Manifest{BaseID: "b@1", Overrides: []store.Override{
				{Entry: file("a", "1")}, {Entry: file("b", "1")},
			}},
			Class: func(string) config.Class { return config.Persist },
			Read: func(e *tree.Entry) ([]byte, error) {
				if e.Path == "a" {
					time.Sleep(time.Second)
				}
				return nil, errors.New("input/output error")
			},
			Texts: &sync.Map{}, Max: 1 << 20, Now: time.Now(),
		}
		_, err := m.Run(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), "merge a: ") {
			t.Error(err)
		}
	})
}
