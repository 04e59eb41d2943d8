package merge

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// threeTexts is what is merged.
type threeTexts struct{ old, mine, theirs []byte }

func (x threeTexts) String() string {
	return fmt.Sprintf("old %q\nmine %q\ntheirs %q", x.old, x.mine, x.theirs)
}

func (x threeTexts) each(f func([]byte) []byte) threeTexts {
	return threeTexts{f(x.old), f(x.mine), f(x.theirs)}
}

// mirrored returns the texts with mine and theirs exchanged.
func (x threeTexts) mirrored() threeTexts { return threeTexts{x.old, x.theirs, x.mine} }

var threeNames = Names{Mine: "MINE", Old: "OLD", Theirs: "THEIRS"}

func (x threeTexts) merged(t rapid.TB) Merged {
	m, err := Text(x.old, x.mine, x.theirs, threeNames)
	if err != nil {
		t.Fatalf("%s\n%v", x, err)
	}
	return m
}

// threeExamples are merges by name. A slash stands for a newline.
var threeExamples = map[string]struct {
	old, mine, theirs string
	want              string
	conflicts         int
}{
	"one side":            {"a/b/c/", "a/B/c/", "a/b/c/", "a/B/c/", 0},
	"far from each other": {"a/b/c/d/", "A/b/c/d/", "a/b/c/D/", "A/b/c/D/", 0},
	"a line between":      {"a/b/c/", "A/b/c/", "a/b/C/", "A/b/C/", 0},
	"next to each other": {
		"a/b/",
		"A/b/",
		"a/B/",
		"<<<<<<< MINE/A/b/||||||| OLD/a/b/=======/a/B/>>>>>>> THEIRS/",
		1,
	},
	"the same line": {
		"a/b/c/",
		"a/x/c/",
		"a/y/c/",
		"a/<<<<<<< MINE/x/||||||| OLD/b/=======/y/>>>>>>> THEIRS/c/",
		1,
	},
	"the same change":      {"a/b/c/", "a/x/c/", "a/x/c/", "a/x/c/", 0},
	"the same and another": {"a/b/c/d/", "x/b/c/d/", "x/b/c/D/", "x/b/c/D/", 0},
	"the same and more": {
		"a/b/",
		"a/x/b/",
		"a/x/y/b/",
		"a/<<<<<<< MINE/x/||||||| OLD/=======/x/y/>>>>>>> THEIRS/b/",
		1,
	},
	"added at the same place": {
		"a/b/",
		"a/x/b/",
		"a/y/b/",
		"a/<<<<<<< MINE/x/||||||| OLD/=======/y/>>>>>>> THEIRS/b/",
		1,
	},
	"added around a line": {"a/b/", "x/a/b/", "a/y/b/", "x/a/y/b/", 0},
	"added next to a change": {
		"a/b/c/",
		"a/x/b/c/",
		"a/B/c/",
		"a/<<<<<<< MINE/x/b/||||||| OLD/b/=======/B/>>>>>>> THEIRS/c/",
		1,
	},
	"added at both ends": {"a/", "x/a/", "a/y/", "x/a/y/", 0},
	"deleted and changed": {
		"a/b/c/",
		"a/c/",
		"a/B/c/",
		"a/<<<<<<< MINE/||||||| OLD/b/=======/B/>>>>>>> THEIRS/c/",
		1,
	},
	"deleted by both": {"a/b/c/", "a/c/", "a/c/", "a/c/", 0},
	"deleted overlapping": {
		"a/b/c/d/e/",
		"a/d/e/",
		"a/b/e/",
		"a/<<<<<<< MINE/d/||||||| OLD/b/c/d/=======/b/>>>>>>> THEIRS/e/",
		1,
	},
	"one change spans two": {
		"a/b/c/d/e/",
		"A/b/C/d/e/",
		"x/e/",
		"<<<<<<< MINE/A/b/C/d/||||||| OLD/a/b/c/d/=======/x/>>>>>>> THEIRS/e/",
		1,
	},
	"two conflicts": {
		"a/b/c/",
		"A/b/C/",
		"x/b/y/",
		"<<<<<<< MINE/A/||||||| OLD/a/=======/x/>>>>>>> THEIRS/b/<<<<<<< MINE/C/||||||| " +
			"OLD/c/=======/y/>>>>>>> THEIRS/",
		2,
	},
	"a conflict and a change": {
		"a/b/c/d/",
		"A/b/c/d/",
		"x/b/c/D/",
		"<<<<<<< MINE/A/||||||| OLD/a/=======/x/>>>>>>> THEIRS/b/c/D/",
		1,
	},
	"emptied and changed": {
		"a/b/",
		"",
		"a/B/",
		"<<<<<<< MINE/||||||| OLD/a/b/=======/a/B/>>>>>>> THEIRS/",
		1,
	},
	"emptied":                  {"a/b/", "", "a/b/", "", 0},
	"no old version":           {"", "a/", "b/", "<<<<<<< MINE/a/||||||| OLD/=======/b/>>>>>>> THEIRS/", 1},
	"no old version, the same": {"", "a/", "a/", "a/", 0},
	"nothing at all":           {"", "", "", "", 0},

	"latin-1": {
		"gr\xfcn/b/c/",
		"gr\xfcn/b/\xff/",
		"gr\xfcn\xe4/b/c/",
		"gr\xfcn\xe4/b/\xff/",
		0,
	},
	"latin-1 is not UTF-8": {
		"a/",
		"gr\xfcn/",
		"grün/",
		"<<<<<<< MINE/gr\xfcn/||||||| OLD/a/=======/grün/>>>>>>> THEIRS/",
		1,
	},
	"DOS": {"a\r/b\r/c\r/", "A\r/b\r/c\r/", "a\r/b\r/C\r/", "A\r/b\r/C\r/", 0},
	"DOS conflict": {
		"a\r/b\r/",
		"A\r/b\r/",
		"x\r/b\r/",
		"<<<<<<< MINE\r/A\r/||||||| OLD\r/a\r/=======\r/x\r/>>>>>>> THEIRS\r/b\r/",
		1,
	},
	"DOS conflict in mine emptied": {
		"a\r/b\r/",
		"",
		"x\r/b\r/",
		"<<<<<<< MINE\r/||||||| OLD\r/a\r/b\r/=======\r/x\r/b\r/>>>>>>> THEIRS\r/",
		1,
	},
	"from DOS to Unix": {
		"a\r/b\r/c\r/",
		"a/b/c/",
		"a\r/b\r/c\r/d\r/",
		"<<<<<<< MINE/a/b/c/||||||| OLD/a\r/b\r/c\r/=======/a\r/b\r/c\r/d\r/>>>>>>> THEIRS/",
		1,
	},
	"one line of DOS": {"a/b\r/c/", "A/b\r/c/", "a/b\r/C/", "A/b\r/C/", 0},

	"no last line break":       {"a/b/c", "A/b/c", "a/b/c", "A/b/c", 0},
	"no last line break, both": {"a/b/c/d", "A/b/c/d", "a/b/C/d", "A/b/C/d", 0},
	"a last line break added":  {"a/b/c", "A/b/c", "a/b/c/", "A/b/c/", 0},
	"a last line break lost":   {"a/b/c/", "A/b/c/", "a/b/c", "A/b/c", 0},
	"appended behind none":     {"a/b/c", "A/b/c", "a/b/c/d", "A/b/c/d", 0},
	"a line break and a change": {
		"a/b",
		"a/b/",
		"a/B",
		"a/<<<<<<< MINE/b/||||||| OLD/b/=======/B/>>>>>>> THEIRS/",
		1,
	},
	"a conflict in all without": {
		"a",
		"b",
		"c",
		"<<<<<<< MINE/b/||||||| OLD/a/=======/c/>>>>>>> THEIRS/",
		1,
	},
	"a conflict in DOS without": {
		"a\r/b",
		"a\r/B",
		"a\r/x",
		"a\r/<<<<<<< MINE\r/B\r/||||||| OLD\r/b\r/=======\r/x\r/>>>>>>> THEIRS\r/",
		1,
	},
	"a line that is no marker's place": {"a/b/c", "a/b/x", "A/b/c", "A/b/x", 0},

	"tags: theirs is newer": {
		"# $FreeBSD: rc 1 $/a/b/c/",
		"# $FreeBSD: rc 1 $/a/b/C/",
		"# $FreeBSD: rc 2 $/A/b/c/",
		"# $FreeBSD: rc 2 $/A/b/C/",
		0,
	},
	"tags: theirs is bare": {
		"# $FreeBSD: rc 1 $/a/b/c/",
		"# $FreeBSD: rc 1 $/a/b/C/",
		"# $FreeBSD$/A/b/c/",
		"# $FreeBSD$/A/b/C/",
		0,
	},
	"tags: next to mine": {
		"# $FreeBSD: rc 1 $/a/b/c/",
		"# $FreeBSD: rc 1 $/A/b/c/",
		"# $FreeBSD: rc 2 $/a/b/C/",
		"# $FreeBSD: rc 2 $/A/b/C/",
		0,
	},
	"tags: theirs is nothing else": {
		"# $FreeBSD: rc 1 $/a/b/",
		"# $FreeBSD: rc 1 $/A/b/",
		"# $FreeBSD: rc 2 $/a/b/",
		"# $FreeBSD: rc 1 $/A/b/",
		0,
	},
	"tags: mine is nothing else": {
		"# $FreeBSD: rc 1 $/a/b/",
		"# $FreeBSD: rc 3 $/a/b/",
		"# $FreeBSD: rc 2 $/A/b/",
		"# $FreeBSD: rc 2 $/A/b/",
		0,
	},
	"tags: all are nothing else": {
		"# $FreeBSD: rc 1 $/a/",
		"# $FreeBSD: rc 3 $/a/",
		"# $FreeBSD: rc 2 $/a/",
		"# $FreeBSD: rc 2 $/a/",
		0,
	},
	"tags: the same change": {
		"# $FreeBSD: rc 1 $/a/b/",
		"# $FreeBSD: rc 1 $/A/b/",
		"# $FreeBSD: rc 2 $/A/b/",
		"# $FreeBSD: rc 2 $/A/b/",
		0,
	},
	"tags: in the same change": {
		"a/b/c/",
		"a/# $FreeBSD: rc 1 $/b/c/",
		"a/# $FreeBSD: rc 2 $/b/C/",
		"a/# $FreeBSD: rc 2 $/b/C/",
		0,
	},
	"tags: their line changed": {
		"# $FreeBSD: rc 1 $/a/b/",
		"# mine $FreeBSD: rc 1 $/a/b/",
		"# $FreeBSD: rc 2 $/a/B/",
		"# mine $FreeBSD: rc 1 $/a/B/",
		0,
	},
	"tags: two in a line": {
		"$FreeBSD: 1 $ $FreeBSD: 1 $/a/b/",
		"$FreeBSD$ $FreeBSD: 2 $/a/B/",
		"$FreeBSD: 3 $ $FreeBSD: 3 $/A/b/",
		"$FreeBSD: 3 $ $FreeBSD: 3 $/<<<<<<< MINE/a/B/||||||| OLD/a/b/=======/A/b/>>>>>>> THEIRS/",
		1,
	},
	"tags: a conflict shows them": {
		"# $FreeBSD: rc 1 $ a/",
		"# $FreeBSD: rc 1 $ b/",
		"# $FreeBSD: rc 2 $ c/",
		"<<<<<<< MINE/# $FreeBSD: rc 1 $ b/||||||| OLD/# $FreeBSD: rc 1 $ a/=======/# $FreeBSD: rc 2 $ " +
			"c/>>>>>>> THEIRS/",
		1,
	},
	"tags: what looks like one": {
		"$FreeBSD: 1/a/",
		"$FreeBSD: 2/a/",
		"$FreeBSD: 3/a/",
		"<<<<<<< MINE/$FreeBSD: 2/||||||| OLD/$FreeBSD: 1/=======/$FreeBSD: 3/>>>>>>> THEIRS/a/",
		1,
	},
	"tags: DOS and no last line break": {
		"a\r/b\r/$FreeBSD: 1 $",
		"A\r/b\r/$FreeBSD: 1 $",
		"a\r/b\r/$FreeBSD: 2 $",
		"A\r/b\r/$FreeBSD: 1 $",
		0,
	},
}

func TestText(t *testing.T) {
	text := func(s string) []byte { return []byte(strings.ReplaceAll(s, "/", "\n")) }
	for name, c := range threeExamples {
		x := threeTexts{text(c.old), text(c.mine), text(c.theirs)}
		m := x.merged(t)
		if got := strings.ReplaceAll(string(m.Content), "\n", "/"); got != c.want ||
			m.Conflicts != c.conflicts {
			t.Errorf("%s: %d conflicts in\n%q\nwant %d in\n%q", name, m.Conflicts, got, c.conflicts, c.want)
		}
	}
}

func TestTextLabels(t *testing.T) {
	for names, want := range map[Names]string{
		{}: "<<<<<<<\nb\n|||||||\na\n=======\nc\n>>>>>>>\n",
		{"saved", "14.1-RELEASE",
			"new default"}: "<<<<<<< saved\nb\n||||||| 14.1-RELEASE\na\n=======\nc\n>>>>>>> new default\n",
	} {
		m, err := Text([]byte("a\n"), []byte("b\n"), []byte("c\n"), names)
		if err != nil || string(m.Content) != want {
			t.Errorf("%q: %q, %v, want %q", names, m.Content, err, want)
		}
	}
}

func TestTextErrors(t *testing.T) {
	a, b, binary := []byte("a\n"), []byte("b\n"), []byte("\x00")
	large, other := bytes.Repeat(a, maxLines/2), bytes.Repeat(b, maxLines/2+1)
	for name, c := range map[string]struct {
		threeTexts
		want error
	}{
		"old is binary":         {threeTexts{binary, a, b}, ErrBinary},
		"mine is binary":        {threeTexts{a, binary, b}, ErrBinary},
		"theirs is binary":      {threeTexts{a, b, binary}, ErrBinary},
		"all are binary":        {threeTexts{binary, binary, binary}, ErrBinary},
		"mine is too large":     {threeTexts{large, other, a}, ErrTooLarge},
		"theirs is too large":   {threeTexts{large, a, other}, ErrTooLarge},
		"old and mine large":    {threeTexts{large, large, other}, nil},
		"mine and theirs large": {threeTexts{large, other, other}, nil},
	} {
		m, err := Text(c.old, c.mine, c.theirs, threeNames)
		if !errors.Is(err, c.want) || err != nil && m.Content != nil {
			t.Errorf("%s: %v, %d bytes, want %v", name, err, len(m.Content), c.want)
		}
	}
}

// TestTextLarge merges changes at both ends of a text that is long for a configuration file, with many
// different lines between.
func TestTextLarge(t *testing.T) {
	var old, theirs bytes.Buffer
	for i := range 40_000 {
		fmt.Fprintf(&old, "line %d\n", i)
		fmt.Fprintf(&theirs, "line %d\n", i+i%100/99*100_000)
	}
	mine := append([]byte("first\n"), old.Bytes()...)
	m := threeTexts{old.Bytes(), mine, theirs.Bytes()}.merged(t)
	if want := append([]byte("first\n"), theirs.Bytes()...); m.Conflicts != 0 ||
		!bytes.Equal(m.Content, want) {
		t.Errorf("%d conflicts in %d bytes, want none in %d", m.Conflicts, len(m.Content), len(want))
	}
}

func TestTextSameButTags(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"", "", true},
		{"a\n", "a\n", true},
		{"a\n", "b\n", false},
		{"# $FreeBSD$\n", "# $FreeBSD: head/etc/rc.conf 123 2020-01-02 03:04:05Z me $\n", true},
		{"# $FreeBSD: 1 $\nx\n# $FreeBSD: 1 $", "# $FreeBSD: 2 $\nx\n# $FreeBSD$", true},
		{"# $FreeBSD: 1 $ a\n", "# $FreeBSD: 1 $ b\n", false},
		{"# $FreeBSD$\n", "# $FreeBSD$", false},
		{"# $FreeBSD$\n", "# $FreeBSD$\r\n", false},
		{"# $FreeBSD: 1\n$\n", "# $FreeBSD: 2\n$\n", false},
		{"# $FreeBSD 1 $\n", "# $FreeBSD 2 $\n", false},
		{"# $OpenBSD: 1 $\n", "# $OpenBSD: 2 $\n", false},
	} {
		if SameButTags([]byte(c.a), []byte(c.b)) != c.want ||
			SameButTags([]byte(c.b), []byte(c.a)) != c.want {
			t.Errorf("%q and %q: want %v", c.a, c.b, c.want)
		}
	}
}

// anyThree draws configuration texts and confusable ones.
var anyThree = rapid.OneOf(
	append([]*rapid.Generator[threeTexts]{administered, administered}, confusables...)...)

func TestThreeIdentities(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { identities(t, anyThree.Draw(t, "three")) })
}

// identities checks merges in which not all versions differ.
func identities(t rapid.TB, x threeTexts) {
	for _, c := range []struct {
		threeTexts
		want []byte
	}{
		{threeTexts{x.old, x.mine, x.old}, x.mine},
		{threeTexts{x.old, x.old, x.theirs}, x.theirs},
		{threeTexts{x.old, x.mine, x.mine}, x.mine},
	} {
		if m := c.merged(t); m.Conflicts != 0 || !bytes.Equal(m.Content, c.want) {
			t.Fatalf("%s\n%d conflicts in %q", c.threeTexts, m.Conflicts, m.Content)
		}
	}
}

// choose takes one version of each conflict: 0 is mine, 1 old, 2 theirs.
func choose(merged []byte, version int) []byte {
	var out []byte
	part := -1
	for _, l := range lines(merged) {
		switch string(bytes.TrimRight(l, "\r\n")) {
		case "<<<<<<< MINE", "||||||| OLD", "=======":
			part++
		case ">>>>>>> THEIRS":
			part = -1
		default:
			if part < 0 || part == version {
				out = append(out, l...)
			}
		}
	}
	return out
}

// TestThreeMirrored exchanges the sides: the merge is the same except for the order in conflicts.
func TestThreeMirrored(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := anyThree.Draw(t, "three")
		m, n := x.merged(t), x.mirrored().merged(t)
		if m.Conflicts != n.Conflicts {
			t.Fatalf("%s\n%d conflicts, mirrored %d", x, m.Conflicts, n.Conflicts)
		}
		for version := range 3 {
			if a, b := choose(m.Content, version), choose(n.Content, 2-version); !bytes.Equal(
				unended(a),
				unended(b),
			) {
				t.Fatalf("%s\nversion %d is\n%s\nmirrored\n%s", x, version, a, b)
			}
		}
	})
}

// unended removes a last newline, because a conflict may have added one that no version has.
func unended(text []byte) []byte { return bytes.TrimRight(text, "\r\n") }

// TestThreeKeepsAdditions takes the decision for one side in each conflict, and looks for every line that
// this side alone has.
func TestThreeKeepsAdditions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := anyThree.Draw(t, "three")
		m := x.merged(t)
		has := func(text []byte) map[string]bool {
			set := map[string]bool{}
			for l := range strings.Lines(string(text)) {
				set[strings.TrimRight(l, "\r\n")] = true
			}
			return set
		}
		old := has(x.old)
		for version, side := range map[int][]byte{0: x.mine, 2: x.theirs} {
			chosen := has(choose(m.Content, version))
			for l := range has(side) {
				if !old[l] && !chosen[l] {
					t.Fatalf("%s\n%q is not in\n%s", x, l, m.Content)
				}
			}
		}
		mine, theirs := has(x.mine), has(x.theirs)
		for l := range has(choose(m.Content, 0)) {
			if !mine[l] && !theirs[l] {
				t.Fatalf("%s\n%q was deleted by both, but is in\n%s", x, l, m.Content)
			}
		}
	})
}

// TestThreeRegions joins regions whose merges are known, with a unique line between them.
func TestThreeRegions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var x threeTexts
		var want [3][]byte // by version chosen
		conflicts := 0
		for i := range rapid.IntRange(0, 8).Draw(t, "regions") {
			old, mine, theirs, chosen := knownRegion(t, i)
			if chosen == nil {
				conflicts++
				chosen = []string{mine, old, theirs}
			}
			between := fmt.Sprintf("between %d\n", i)
			x.old = append(append(x.old, old...), between...)
			x.mine = append(append(x.mine, mine...), between...)
			x.theirs = append(append(x.theirs, theirs...), between...)
			for v := range want {
				want[v] = append(append(want[v], chosen[v]...), between...)
			}
		}
		m := x.merged(t)
		if m.Conflicts != conflicts {
			t.Fatalf("%s\n%d conflicts, want %d", x, m.Conflicts, conflicts)
		}
		for v := range want {
			if got := choose(m.Content, v); !bytes.Equal(got, want[v]) {
				t.Fatalf("%s\nversion %d is\n%s\nwant\n%s", x, v, got, want[v])
			}
		}
	})
}

// knownRegion draws a region in which versions have a line in common only if they are equal. chosen is what a
// merge has for each version; nil if it is a conflict.
func knownRegion(t *rapid.T, number int) (old, mine, theirs string, chosen []string) {
	part := func(version string) string {
		var s string
		for i := range rapid.IntRange(0, 3).Draw(t, version) {
			s += fmt.Sprintf("%s %d.%d\n", version, number, i)
		}
		return s
	}
	old = part("old")
	mine = rapid.SampledFrom([]string{old, part("mine")}).Draw(t, "mine")
	theirs = rapid.SampledFrom([]string{old, mine, part("theirs")}).Draw(t, "theirs")
	switch {
	case mine == theirs, mine == old:
		chosen = slices.Repeat([]string{theirs}, 3)
	case theirs == old:
		chosen = slices.Repeat([]string{mine}, 3)
	}
	return old, mine, theirs, chosen
}

// TestThreeTags adds tags: apart from their text the merge is the same as with unexpanded ones.
func TestThreeTags(t *testing.T) {
	bare := []byte("# $FreeBSD$")
	rapid.Check(t, func(t *rapid.T) {
		x := anyThree.Draw(t, "three").each(func(text []byte) []byte {
			return bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("line 1"), bare), []byte("# The"), bare)
		})
		filled := x.each(func(text []byte) []byte {
			var out []byte
			for _, l := range lines(text) {
				tag := fmt.Sprintf("# $FreeBSD: head/etc/rc %d $", rapid.IntRange(1, 3).Draw(t, "revision"))
				out = append(out, bytes.Replace(l, bare, []byte(tag), 1)...)
			}
			return out
		})
		m, want := filled.merged(t), x.merged(t)
		if m.Conflicts != want.Conflicts || !SameButTags(m.Content, want.Content) {
			t.Fatalf("%s\nmerges to %d conflicts in\n%s\nbare to %d in\n%s", filled, m.Conflicts, m.Content,
				want.Conflicts, want.Content)
		}
	})
}
