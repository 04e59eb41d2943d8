package store

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

// Step is one change that a commit makes to the plain tree or to .cfgd after its journal is stable. Each step
// can be repeated after it was done, wholly or half.
type Step struct {
	Do   string     // rm, rmdir, mkdir, put, meta, times, install
	Path string     // below cfg; for install a file of .cfgd
	From string     // for put and install: a name in .cfgd/tmp
	Want tree.Entry // for put: kind, digest or link; for meta: mode, owner and time; for times: time
}

// The values of Step.Do.
const (
	DoRm      = "rm"      // unlink a file or link
	DoRmdir   = "rmdir"   // remove a directory, if it is empty
	DoMkdir   = "mkdir"   // make a directory
	DoPut     = "put"     // rename from tmp to its place
	DoMeta    = "meta"    // a directory's mode, owner, attributes and time
	DoTimes   = "times"   // a file's or link's time
	DoInstall = "install" // rename from tmp to manifest or removed
)

// JournalHeader is the first line of a journal.
type JournalHeader struct {
	Journal int    `json:"journal"` // FormatVersion
	Steps   int    `json:"steps"`
	Digest  string `json:"digest"` // SHA-256 of the lines that follow
}

type journalLine struct {
	Do   string `json:"do"`
	From string `json:"from,omitempty"`
	manifestLine
}

// encodeJournal returns a journal: JSON Lines, a header and one line for each step.
func encodeJournal(steps []Step) ([]byte, error) {
	var body, out bytes.Buffer
	for _, st := range steps {
		l := journalLine{Do: st.Do, From: st.From, manifestLine: *lineOf(&st.Want)}
		l.JSON = pathname.FromPath(st.Path)
		if err := encodeLine(&body, l); err != nil {
			return nil, err
		}
	}
	h := JournalHeader{FormatVersion, len(steps), tree.Digest(sha256.Sum256(body.Bytes())).String()}
	if err := encodeLine(&out, h); err != nil {
		return nil, err
	}
	out.Write(body.Bytes())
	return out.Bytes(), nil
}

var tmpName = regexp.MustCompile(`^[a-z0-9]{1,24}$`)

// parseJournal reads a journal and checks all of it: names in tmp are plain, paths stay below cfg, count and
// digest are right.
func parseJournal(b []byte) ([]Step, error) {
	sc := bufio.NewScanner(bytes.NewReader(b))
	sc.Buffer(nil, len(b)+1) // one line may be as long as the text: it can list thousands of hand edits
	var h JournalHeader
	if !sc.Scan() {
		return nil, errors.New("journal:1: no header")
	}
	if err := json.Unmarshal(sc.Bytes(), &h); err != nil {
		return nil, fmt.Errorf("journal:1: %w", err)
	}
	if h.Journal != FormatVersion {
		return nil, fmt.Errorf("journal:1: format %d, this cfgd knows %d", h.Journal, FormatVersion)
	}
	if tree.Digest(sha256.Sum256(b[min(len(sc.Bytes())+1, len(b)):])).String() != h.Digest {
		return nil, errors.New("journal:1: torn: the lines do not have the digest that the header gives")
	}
	var steps []Step
	for n := 2; sc.Scan(); n++ {
		st, err := parseStep(sc.Bytes())
		if err != nil {
			return nil, fmt.Errorf("journal:%d: %w", n, err)
		}
		steps = append(steps, st)
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if len(steps) != h.Steps {
		return nil, fmt.Errorf("journal:1: %d steps follow where the header says %d", len(steps), h.Steps)
	}
	return steps, nil
}

func parseStep(b []byte) (Step, error) {
	var l journalLine
	if err := json.Unmarshal(b, &l); err != nil {
		return Step{}, err
	}
	name, err := l.Name()
	if err != nil {
		return Step{}, err
	}
	st := Step{Do: l.Do, Path: name, From: l.From}
	if st.From != "" && !tmpName.MatchString(st.From) {
		return st, fmt.Errorf("from %q: not a name of tmp", st.From)
	}
	switch st.Do {
	case DoInstall:
		if name != manifestFile && name != removedFile || st.From == "" {
			return st, fmt.Errorf("install %q: neither manifest nor removed", name)
		}
		return st, nil
	case DoPut:
		if st.From == "" {
			return st, errors.New("put without from")
		}
	case DoRm, DoRmdir, DoMkdir, DoMeta, DoTimes:
	default:
		return st, fmt.Errorf("do %q: no such step", st.Do)
	}
	if err := pathname.Valid(name); err != nil {
		return st, err
	}
	if l.Kind == dirfd.KindNone.String() {
		return st, nil
	}
	e, err := l.entry(name)
	if err != nil {
		return st, err
	}
	st.Want = *e
	return st, nil
}

// readableJournal encodes a journal and checks that it can be read back.
func readableJournal(steps []Step) ([]byte, error) {
	text, err := encodeJournal(steps)
	if err != nil {
		return nil, err
	}
	if err := Fits("journal", text, MaxManifest); err != nil {
		return nil, err
	}
	_, err = parseJournal(text)
	return text, err
}
