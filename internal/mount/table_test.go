package mount

import (
	"testing"

	"github.com/moby/sys/mountinfo"
)

// All mounts on a directory are wanted, so the search must not stop at the first, which the others cover.
func TestCoveredMountsAreFound(t *testing.T) {
	filter := exactly("/jail/web/etc")
	for dir, want := range map[string]bool{
		"/": false, "/jail/web": false, "/jail/web/etc": true, "/jail/web/etc/ssl": false,
	} {
		if skip, stop := filter(&mountinfo.Info{Mountpoint: dir}); skip == want || stop {
			t.Errorf("%s: skipped %v, the last %v", dir, skip, stop)
		}
	}
}
