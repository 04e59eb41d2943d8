package jailhooks

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Archive is a rescue archive: what a cleanup could not save.
type Archive struct {
	Target string // whose it is, by the archive's name
	Name   string
	Bytes  int64
	Time   time.Time // when it was written
}

// archiveTime is the time in an archive's name, in UTC.
const archiveTime = "20060102T150405.000Z"

// ArchiveTarget returns the target in the name of an archive; "" if it is not a name that a cleanup gives.
func ArchiveTarget(name string) string {
	stem, ok := strings.CutSuffix(name, ".tar")
	i := strings.LastIndexByte(stem, '-')
	if !ok || i < 1 {
		return ""
	}
	if _, err := time.Parse(archiveTime, stem[i+1:]); err != nil {
		return ""
	}
	return stem[:i]
}

// Archives lists the rescue archives of a directory, by their names. A directory that does not exist has
// none.
func Archives(dir string) ([]Archive, error) {
	names, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []Archive
	for _, n := range names {
		stem, ok := strings.CutSuffix(n.Name(), ".tar")
		st, err := n.Info()
		if !ok || err != nil || !st.Mode().IsRegular() {
			continue
		}
		target := stem
		if i := strings.LastIndexByte(stem, '-'); i > 0 { // a target's name may have one, the time has none
			target = stem[:i]
		}
		out = append(out, Archive{target, n.Name(), st.Size(), st.ModTime().UTC()})
	}
	return out, nil
}
