package store

import (
	"bytes"
	"encoding/json"
	"fmt"

	"cfgd/internal/pathname"
)

// The store never writes what it would refuse to read, because a store that can't be read has lost its
// history. So each text is parsed before it is put in place. The limits:
//
// 	manifest, generations/N   MaxManifest, and what ParseManifest checks: paths, order, times, kinds
// 	journal                   MaxManifest, and what ParseJournal checks
// 	removed                   MaxManifest
// 	trial                     maxNote
// 	objects/HEX.gz            Store.Most; a larger file is not kept for a merge
//
// dirfd bounds the attributes of a file, tree.MaxXattrs those of a tree, tree.Scan the length of paths.

// readable encodes a manifest and checks that it can be read back.
func (m *Manifest) readable() ([]byte, error) {
	text, err := m.Encode()
	if err != nil {
		return nil, err
	}
	if err := Fits("manifest", text, MaxManifest); err != nil {
		return nil, err
	}
	_, err = ParseManifest(text)
	return text, err
}

// readableJournal encodes a journal and checks that it can be read back.
func readableJournal(steps []Step) ([]byte, error) {
	text, err := EncodeJournal(steps)
	if err != nil {
		return nil, err
	}
	if err := Fits("journal", text, MaxManifest); err != nil {
		return nil, err
	}
	_, err = ParseJournal(text)
	return text, err
}

// Fits returns an error if a text is longer than limit bytes. The error names the path that takes the most.
func Fits(what string, text []byte, limit int64) error {
	if int64(len(text)) <= limit {
		return nil
	}
	var longest []byte
	for line := range bytes.Lines(text) {
		if len(line) > len(longest) {
			longest = line
		}
	}
	where := ""
	var l pathname.JSON
	if json.Unmarshal(longest, &l) == nil && l.Path != "" {
		where = fmt.Sprintf("; most of it, %d KiB, is about %s", len(longest)>>10, pathname.Quote(l.Path))
	}
	return fmt.Errorf("the %s would have %d KiB and is read up to %d KiB%s; nothing was saved",
		what, (len(text)+1023)>>10, limit>>10, where)
}
