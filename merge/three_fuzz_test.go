package merge

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func FuzzText(f *testing.F) {
	for _, c := range threeExamples {
		text := func(s string) []byte { return []byte(strings.ReplaceAll(s, "/", "\n")) }
		f.Add(text(c.old), text(c.mine), text(c.theirs))
	}
	f.Add([]byte("<<<<<<< MINE\na\n=======\n"), []byte("b\n>>>>>>> THEIRS\n"), []byte("\x00"))
	f.Fuzz(func(t *testing.T, old, mine, theirs []byte) {
		x := threeTexts{old, mine, theirs}
		if _, err := Text(old, mine, theirs, threeNames); errors.Is(err, ErrBinary) {
			if !Binary(old) && !Binary(mine) && !Binary(theirs) {
				t.Fatalf("%s\n%v", x, err)
			}
			return
		}
		identities(t, x)
		m, n := x.merged(t), x.mirrored().merged(t)
		if m.Conflicts != n.Conflicts {
			t.Fatalf("%s\n%d conflicts, mirrored %d", x, m.Conflicts, n.Conflicts)
		}
		known := map[string]bool{}
		for _, l := range slices.Concat(lines(old), lines(mine), lines(theirs)) {
			known[string(l)] = true
		}
		for _, l := range lines(m.Content) {
			if m.Conflicts == 0 && !known[string(l)] {
				t.Fatalf("%s\nno version has %q", x, l)
			}
		}
	})
}
