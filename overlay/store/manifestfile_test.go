package store

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/tree"
)

func validEntry(t *testing.T, e *tree.Entry) {
	t.Helper()
	if e == nil {
		return
	}
	if err := pathname.Valid(e.Path); err != nil {
		t.Errorf("accepted: %v", err)
	}
	if e.Kind == dirfd.KindNone || e.Kind.Special() || e.Mode > 0o7777 || e.Size < 0 {
		t.Errorf("accepted: %+v", e)
	}
}

func someManifest() *Manifest {
	e := tree.Entry{
		Path:   "a/b",
		Kind:   dirfd.KindFile,
		Mode:   0o4755,
		Size:   3,
		MTime:  -1,
		Digest: sha256.Sum256([]byte("abc")),
	}
	l := tree.Entry{
		Path:  "gr\xfcn",
		Kind:  dirfd.KindSymlink,
		Mode:  0o777,
		Link:  "\xff\n",
		MTime: 1_700_000_000_123_456_789,
	}
	return &Manifest{
		Generation: 3,
		Time:       time.Unix(1_700_000_000, 5).UTC(),
		BaseID:     "x",
		Message:    "why\n",
		Overrides:  []Override{{Entry: e, Default: &e}, {Entry: l, Default: nil}},
		Removals: []tree.Removal{
			{Path: "z\n", MTime: 7},
			{Path: "z~", Default: &tree.Entry{Path: "z~", Kind: dirfd.KindDir, Mode: 0o755}},
		},
		Pins:      []string{"a/b"},
		HandEdits: []string{"q\xff"},
	}
}

// redigest puts the right digest into the header of a changed text, so that the fuzzer gets past that check.
func redigest(text []byte) []byte {
	head, body, ok := strings.Cut(string(text), "\n")
	var h map[string]any
	if !ok || json.Unmarshal([]byte(head), &h) != nil || h == nil {
		return text
	}
	h["digest"] = tree.Digest(sha256.Sum256([]byte(body))).String()
	out, err := json.Marshal(h)
	if err != nil {
		return text
	}
	return append(append(out, '\n'), body...)
}

func FuzzManifest(f *testing.F) {
	text, err := someManifest().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(text[:len(text)/2])
	f.Add(
		[]byte(
			`{"format":1,"generation":1,"time":"2026-01-01T00:00:00Z","base":"","entries":1,"digest":""}` +
				"\n" + `{"path":"../x","type":"removal"}` + "\n",
		),
	)
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, b := range [][]byte{text, redigest(text)} {
			m, err := ParseManifest(b)
			if err != nil {
				continue
			}
			for i := range m.Overrides {
				validEntry(t, &m.Overrides[i].Entry)
				validEntry(t, m.Overrides[i].Default)
			}
			for _, r := range m.Removals {
				validEntry(t, r.Default)
				if err := pathname.Valid(r.Path); err != nil {
					t.Errorf("accepted: %v", err)
				}
			}
			for _, p := range append(m.Pins, m.HandEdits...) {
				if err := pathname.Valid(p); err != nil {
					t.Errorf("accepted: %v", err)
				}
			}
			out, err := m.Encode()
			if err != nil {
				t.Fatalf("accepted and not to be written: %v", err)
			}
			again, err := ParseManifest(out)
			if err != nil {
				t.Fatalf("written and not to be read: %v\n%s", err, out)
			}
			if !m.Time.Equal(again.Time) {
				t.Errorf("time %v, was %v", again.Time, m.Time)
			}
			m.Time, again.Time = time.Time{}, time.Time{}
			if !reflect.DeepEqual(m, again) {
				t.Errorf("read back as\n%+v, was\n%+v", again, m)
			}
		}
	})
}

func FuzzJournal(f *testing.F) {
	e := tree.Entry{
		Path:   "a/b",
		Kind:   dirfd.KindFile,
		Mode:   0o644,
		Size:   3,
		Digest: sha256.Sum256([]byte("abc")),
	}
	d := tree.Entry{Path: "d", Kind: dirfd.KindDir, Mode: 0o755}
	text, err := encodeJournal([]Step{
		{Do: DoRm, Path: "x"},
		{Do: DoRmdir, Path: "y"},
		{Do: DoMkdir, Path: "d"},
		{Do: DoPut, Path: "a/b", From: "1", Want: e},
		{
			Do:   DoTimes,
			Path: "a/b",
			Want: e,
		},
		{Do: DoMeta, Path: "d", Want: d},
		{Do: DoInstall, Path: manifestFile, From: manifestFile},
	})
	if err != nil {
		f.Fatal(err)
	}
	if steps, err := parseJournal(text); err != nil || len(steps) != 7 {
		f.Fatalf("%d steps, %v", len(steps), err)
	}
	f.Add(text)
	f.Add(text[:len(text)-3])
	f.Add(
		[]byte(
			`{"journal":1,"steps":1,"digest":""}` + "\n" +
				`{"do":"put","from":"../1","path":"../x","kind":"file","mode":"0644"}` + "\n",
		),
	)
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, b := range [][]byte{text, redigest(text)} {
			steps, err := parseJournal(b)
			if err != nil {
				continue
			}
			for _, st := range steps {
				if st.Do == DoInstall {
					if st.Path != manifestFile && st.Path != removedFile {
						t.Errorf("installs %q", st.Path)
					}
				} else if err := pathname.Valid(st.Path); err != nil {
					t.Errorf("accepted: %v", err)
				}
				if strings.ContainsAny(st.From, "/.\x00") ||
					st.From == "" && (st.Do == DoPut || st.Do == DoInstall) {
					t.Errorf("%s from %q", st.Do, st.From)
				}
				if st.Want.Path != "" {
					validEntry(t, &st.Want)
				}
			}
		}
	})
}

// Every time that a file can have is read back.
func TestTimesOfManifest(t *testing.T) {
	t.Parallel()
	for _, n := range []int64{0, 1, -1, 1e9, -1e9, 1e9 - 1, 1 - 1e9, (1 << 33) * 1e9, (1<<33)*1e9 + 1e9,
		-(1<<33)*1e9 - 1, math.MaxInt64, math.MinInt64, math.MinInt64 + 1} {
		if got, err := parseNanos(formatNanos(n)); err != nil || got != n {
			t.Errorf("%d: %s is read as %d, %v", n, formatNanos(n), got, err)
		}
	}
	for _, s := range []string{"9223372036.854775808", "-9223372037.145224191", "99999999999.000000000",
		"1.0", "01.000000000", "1.1000000000", "+1.000000000", "-0.000000001"} {
		if n, err := parseNanos(s); err == nil {
			t.Errorf("%s is read as %d", s, n)
		}
	}
}

func TestManyHandEditsFitAManifest(t *testing.T) {
	t.Parallel()
	m := someManifest()
	m.HandEdits = nil
	for i := range 30_000 {
		path := fmt.Sprintf("local/share/something/quite/long/to/fill/the/line/%06d", i)
		m.HandEdits = append(m.HandEdits, path)
	}
	text, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ParseManifest(text); err != nil || len(again.HandEdits) != len(m.HandEdits) {
		t.Errorf("read back: %v", err)
	}
}
