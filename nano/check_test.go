package nano

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
)

// If too much of an image had to be kept in memory, only its length and its digest are checked. Other faults
// are found when it is written.
func TestCheckWithoutMemory(t *testing.T) {
	t.Parallel()
	good := tinyImage(t)
	other := ufsOf(t, "host/rc.conf")
	h := newHost(t, "GPT", false, good)
	all, tab, err := h.machine().Slices(t.Context())
	h.must(err)
	for form, b := range packed(t, good) {
		for name, c := range map[string]struct {
			b    []byte
			sum  bool
			want string
		}{
			"good":         {b, true, ""},
			"another sum":  {b, false, "another image"},
			"cut":          {b[:len(b)-9], true, "it ends in the middle"},
			"of no system": {packed(t, other)[form], true, "neither"},
		} {
			file := h.path("image")
			h.must(os.WriteFile(file, c.b, 0o600))
			f, err := os.Open(file)
			h.must(err)
			sum := sha256.Sum256(c.b)
			in := Install{SHA256: hex.EncodeToString(sum[:])}
			if !c.sum {
				in.SHA256 = strings.Repeat("0", 64)
			}
			for _, limit := range []int64{maxSieve, 1000} {
				want := c.want
				if name == "of no system" && limit == 1000 && form != "plain" {
					want = "" // found when it is written
				}
				i := &installation{in, h.machine(), tab, &Installed{Slice: *Other(all)}}
				_, err := i.check(t.Context(), &imageFile{f, 0, int64(len(c.b)), limit})
				if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%s, %s, at most %d: %v", form, name, limit, err)
				}
			}
			h.must(f.Close())
		}
	}
}

// An open file is read from its offset on, which a shell may have moved. A pipe is not read twice.
func TestSeekable(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/image"
	img := tinyImage(t)
	if err := os.WriteFile(file, append([]byte("a header\n"), img...), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(9, 0); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, "GPT", false, img)
	done, err := h.machine().Install(t.Context(), Install{From: f})
	if err != nil || done.Bytes != int64(len(img)) {
		t.Errorf("%+v, %v", done, err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if f, _ := seekable(r); f != nil {
		t.Error("a pipe")
	}
	if f, _ := seekable(bytes.NewReader(nil)); f != nil {
		t.Error("no file")
	}
	if _, err := eachSlice(func(int) error { return errNoMore }); errors.Is(err, errNoMore) {
		t.Error(err)
	}
}
