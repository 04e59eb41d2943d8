package watcher

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cfgd/internal/pathname"
)

// A pathMap holds what a map of the same paths would, and leaves nothing behind.
func TestGrove(t *testing.T) {
	t.Parallel()
	path := rapid.Custom(func(t *rapid.T) string {
		name := rapid.SampledFrom([]string{"a", "b", "a-b"})
		return strings.Join(rapid.SliceOfN(name, 0, 4).Draw(t, "names"), "/")
	})
	rapid.Check(t, func(t *rapid.T) {
		g, want := pathMap[int]{}, map[string]int{}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				p := path.Draw(t, "path")
				g.put(p, len(want))
				want[p] = len(want)
			},
			"cut": func(t *rapid.T) {
				p := path.Draw(t, "path")
				gone := map[string]int{}
				g.removeBelow(p, func(q string, v int) {
					for above := q; above != p; {
						if above = pathname.Parent(above); want[above] != 0 && gone[above] == 0 &&
							pathname.Within(above, p) {
							t.Errorf("%s comes before %s", q, above)
						}
					}
					gone[q] = v
				})
				for q, v := range want {
					if pathname.Within(q, p) {
						if gone[q] != v {
							t.Errorf("cut %s: %s is not among %v", p, q, gone)
						}
						delete(want, q)
					}
				}
			},
			"cut while walking": func(t *rapid.T) {
				p := path.Draw(t, "path")
				g.each(func(q string, _ int) {
					if pathname.Within(q, p) {
						g.removeBelow(q, func(string, int) {})
					}
				})
				maps.DeleteFunc(want, func(q string, _ int) bool { return pathname.Within(q, p) })
			},
			"": func(t *rapid.T) {
				got := map[string]int{}
				g.each(func(p string, v int) { got[p] = v })
				if !maps.Equal(got, want) {
					t.Errorf("%v, want %v", got, want)
				}
				for p, at := range g { // what has no value is above something that has
					if !at.set && len(at.below) == 0 {
						t.Errorf("%q is left of %v", p, slices.Sorted(maps.Keys(want)))
					}
					if v, ok := g.get(p); ok != at.set || ok && v != want[p] {
						t.Errorf("%q: %d, %v", p, v, ok)
					}
				}
			},
		})
	})
}
