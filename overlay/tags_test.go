package overlay

import (
	"os"
	"testing"

	"cfgd/merge"
)

// $FreeBSD$ tags alone are no change, of a default or of a saved file, for a merge, a removal or a default
// that went. What else changed with them counts.
func TestTagsAreNoChange(t *testing.T) {
	const first, second = "# $FreeBSD: head/etc/x 1 $\na\n", "# $FreeBSD: head/etc/x 2 $\na\n"
	const edited = first + "b\n"
	for name, c := range map[string]struct {
		old, mine, theirs string // "" for nothing there
		mode              os.FileMode
		pinned            bool
		want              merge.Verdict
		holds             string
	}{
		"removed":                       {first, "", second, 0o644, false, merge.VerdictKept, ""},
		"removed, and the mode changed": {first, "", second, 0o600, false, merge.VerdictRemoved, ""},
		"removed, and the text changed": {first, "", second + "b\n", 0o644, false, merge.VerdictRemoved, ""},
		"gone":                          {first, second, "", 0o644, false, merge.VerdictEqual, ""},
		"gone, and pinned":              {first, second, "", 0o644, true, merge.VerdictGone, second},
		"gone, and edited":              {first, edited, "", 0o644, false, merge.VerdictGone, edited},
		"merged":                        {first, second, edited, 0o644, false, merge.VerdictEqual, edited},
		"merged the other way":          {first, edited, second, 0o644, false, merge.VerdictKept, edited},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, map[string]string{"x": c.old, "other": "o\n"})
			b.write("base2/other", "o\n")
			if c.theirs != "" {
				b.write("base2/x", c.theirs)
				b.must(os.Chmod(b.path("base2/x"), c.mode))
			}
			b.populate()
			if b.remove("x"); c.mine != "" {
				b.edit("x", c.mine)
			}
			b.save()
			if c.pinned {
				_, err := b.o.Pin(t.Context(), []string{"x"}, false)
				b.must(err)
			}
			if got := verdicts(b.upgrade("/base2").Merge)["x"]; got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			if c.holds == "" {
				c.holds = "(absent)"
			}
			b.holds(map[string]string{"x": c.holds})
			// The tags of the new default are those that the next merge compares with.
			if p := b.upgrade("/base2"); p.Merge != nil {
				t.Errorf("merged again: %v", verdicts(p.Merge))
			}
		})
	}
}
