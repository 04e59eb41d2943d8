package store

import (
	"bytes"
	"encoding/json"
	"fmt"

	"cfgd/internal/pathname"
)

// What a reader of the store refuses is never written: a store that can't be read back has lost its history.
// So each text is read before it is put in place. The limits are these:
//
//	manifest, generations/N   maxManifest, and what ParseManifest checks: paths, order, times, kinds
//	journal                   maxManifest, and what parseJournal checks
//	removed                   maxManifest
//	trial                     maxNote
//	objects/HEX.gz            Store.most; what is larger is not kept for a merge
//
// Attributes are bounded by dirfd for a file and by maxTreeXattrs for a tree, lengths of paths by Scan.

// readable encodes a manifest to be written, if it can be read back.
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

// ReadableJournal is encodeJournal of what parseJournal reads.
func ReadableJournal(steps []Step) ([]byte, error) {
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

// Fits checks a text against the bytes up to which it is read, and names the path that takes most of them.
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
