package overlay

import (
	"crypto/sha256"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/overlay/store"
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

func someManifest() *store.Manifest {
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
	return &store.Manifest{
		Generation: 3,
		Time:       time.Unix(1_700_000_000, 5).UTC(),
		BaseID:     "x",
		Message:    "why\n",
		Overrides:  []store.Override{{Entry: e, Default: &e}, {Entry: l, Default: nil}},
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
			m, err := store.ParseManifest(b)
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
			again, err := store.ParseManifest(out)
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
	text, err := store.EncodeJournal([]store.Step{
		{Do: store.DoRm, Path: "x"},
		{Do: store.DoRmdir, Path: "y"},
		{Do: store.DoMkdir, Path: "d"},
		{Do: store.DoPut, Path: "a/b", From: "1", Want: e},
		{
			Do:   store.DoTimes,
			Path: "a/b",
			Want: e,
		},
		{Do: store.DoMeta, Path: "d", Want: d},
		{Do: store.DoInstall, Path: store.ManifestFile, From: store.ManifestFile},
	})
	if err != nil {
		f.Fatal(err)
	}
	if steps, err := store.ParseJournal(text); err != nil || len(steps) != 7 {
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
			steps, err := store.ParseJournal(b)
			if err != nil {
				continue
			}
			for _, st := range steps {
				if st.Do == store.DoInstall {
					if st.Path != store.ManifestFile && st.Path != store.RemovedFile {
						t.Errorf("installs %q", st.Path)
					}
				} else if err := pathname.Valid(st.Path); err != nil {
					t.Errorf("accepted: %v", err)
				}
				if strings.ContainsAny(st.From, "/.\x00") ||
					st.From == "" && (st.Do == store.DoPut || st.Do == store.DoInstall) {
					t.Errorf("%s from %q", st.Do, st.From)
				}
				if st.Want.Path != "" {
					validEntry(t, &st.Want)
				}
			}
		}
	})
}
