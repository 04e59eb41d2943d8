package merge

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// paragraphs make up the configuration texts of these tests. They have lines in common, as such files do.
var paragraphs = []string{
	"#\n# This is the default configuration. Do not edit it.\n#\n",
	"\n# Network\nhostname=\"host\"\nifconfig_em0=\"DHCP\"\ndefaultrouter=\"10.0.0.1\"\n",
	"\nsshd_enable=\"YES\"\nsshd_flags=\"\"\nntpd_enable=\"YES\"\nntpd_flags=\"\"\n",
	"\nzone \".\" {\n\ttype hint;\n\tfile \"named.root\";\n};\n",
	"\nzone \"localhost\" {\n\ttype master;\n\tfile \"master/localhost\";\n};\n",
	"\nsyslogd_flags=\"-s\"\ndumpdev=\"AUTO\"\n",
	"\n*.err;kern.warning\t/dev/console\n*.notice\t/var/log/messages\n!ppp\n*.*\t/var/log/ppp.log\n!*\n",
	"\n# The next lines are examples.\n#\n#local_unbound_enable=\"YES\"\n#\n# K\xf6ln\n",
}

// administer draws what people do to a file at one of its lines.
func administer(t *rapid.T, text []string, at int) []string {
	at = max(0, min(at, len(text)))
	gone := min(len(text), at+rapid.IntRange(1, 3).Draw(t, "gone"))
	option := fmt.Sprintf("option%d=\"%d\"\n", rapid.IntRange(0, 3).Draw(t, "option"),
		rapid.IntRange(0, 3).Draw(t, "value"))
	switch rapid.SampledFrom([]string{"set", "replace", "delete", "comment out", "add"}).Draw(t, "what") {
	case "set":
		return spliced(text, at, at, option)
	case "replace":
		return spliced(text, at, gone, option)
	case "delete":
		return spliced(text, at, gone, "")
	case "comment out":
		return spliced(text, at, gone, "#"+strings.Join(text[at:gone], "#"))
	}
	return spliced(text, at, at, rapid.SampledFrom(paragraphs).Draw(t, "paragraph"))
}

// spliced returns a text with some of its lines replaced.
func spliced(text []string, from, to int, others string) []string {
	from, to = min(from, len(text)), min(to, len(text))
	return slices.Concat(text[:from], slices.Collect(strings.Lines(others)), text[to:])
}

// administered draws what two people make of a configuration file. Where one works, the other works too, or
// nearby, or does the same.
var administered = rapid.Custom(func(t *rapid.T) threeTexts {
	chosen := rapid.SliceOfN(rapid.SampledFrom(paragraphs), 1, 20).Draw(t, "paragraphs")
	old := slices.Collect(strings.Lines(strings.Join(chosen, "")))
	mine, theirs := old, old
	for range rapid.IntRange(1, 4).Draw(t, "edits") {
		at := rapid.IntRange(0, len(old)).Draw(t, "at")
		switch rapid.SampledFrom([]string{"mine", "theirs", "near", "same"}).Draw(t, "who") {
		case "mine":
			mine = administer(t, mine, at)
		case "theirs":
			theirs = administer(t, theirs, at)
		case "near":
			mine, theirs = administer(t, mine, at), administer(t, theirs,
				at+rapid.IntRange(-4, 4).Draw(t, "near"))
		case "same":
			p := rapid.SampledFrom(paragraphs).Draw(t, "paragraph")
			mine, theirs = spliced(mine, at, at, p), spliced(theirs, at, at, p)
		}
	}
	return ended(t, old, mine, theirs)
})

// confusable draws texts of few distinct lines, which can be aligned in many ways.
func confusable(kinds [2]int) *rapid.Generator[threeTexts] {
	return rapid.Custom(func(t *rapid.T) threeTexts {
		old := randomLines(kinds, 60).Draw(t, "old")
		return ended(t, old, edited(t, old, kinds), edited(t, old, kinds))
	})
}

var confusables = func() (all []*rapid.Generator[threeTexts]) {
	for _, kinds := range kindsOfLine {
		all = append(all, confusable(kinds))
	}
	return all
}()

// ended draws how three texts end: some without a last newline, some with CRLF.
func ended(t *rapid.T, old, mine, theirs []string) threeTexts {
	x := threeTexts{joined(t, old), joined(t, mine), joined(t, theirs)}
	if rapid.IntRange(0, 7).Draw(t, "dos") == 0 {
		x = x.each(func(text []byte) []byte { return bytes.ReplaceAll(text, newline, []byte("\r\n")) })
	}
	return x
}

// examples returns n triples, a tenth of them in short tests, the same in every run. Half are configuration
// texts, half confusable ones.
func examples(first, n int) []threeTexts {
	if testing.Short() {
		n /= 10
	}
	x := make([]threeTexts, n)
	for i := range x {
		if i%2 == 0 {
			x[i] = administered.Example(first + i)
		} else {
			x[i] = confusables[i/2%len(confusables)].Example(first + i)
		}
	}
	return x
}

// layOut writes the texts of each example to old/$i, mine/$i and theirs/$i in a directory.
func layOut(t *testing.T, x []threeTexts) (dir string) {
	dir = filepath.Join(t.TempDir(), "work")
	for _, d := range []string{"old", "mine", "theirs", "out"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i := range x {
		name := strconv.Itoa(i)
		write(t, filepath.Join(dir, "old", name), x[i].old)
		write(t, filepath.Join(dir, "mine", name), x[i].mine)
		write(t, filepath.Join(dir, "theirs", name), x[i].theirs)
	}
	return dir
}

// toolsMerge is a tool's output for an example, and its exit status.
type toolsMerge struct {
	content []byte
	status  int
}

// mergedBy runs a tool on n examples that are laid out, all in one shell.
func mergedBy(t *testing.T, dir string, n int, command string) []toolsMerge {
	out, err := tool(dir, "sh", "-c", fmt.Sprintf(
		"i=0; while [ $i -lt %d ]; do %s -L MINE -L OLD -L THEIRS mine/$i old/$i theirs/$i >out/$i "+
			"2>/dev/null; echo $?; i=$((i+1)); done",
		n,
		command,
	))
	if err != nil {
		t.Fatal(err, out)
	}
	results := make([]toolsMerge, n)
	for i, status := range strings.Fields(out) {
		if results[i].status, err = strconv.Atoi(status); err != nil {
			t.Fatal(err)
		}
		if results[i].content, err = os.ReadFile(filepath.Join(dir, "out", strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	return results
}

// merges returns our merges of the examples.
func merges(t *testing.T, x []threeTexts) []Merged {
	m := make([]Merged, len(x))
	conflicts := 0
	for i := range x {
		if m[i] = x[i].merged(t); m[i].Conflicts > 0 {
			conflicts++
		}
	}
	if conflicts < len(x)/4 || conflicts > len(x)*3/4 {
		t.Errorf("%d of %d examples conflict, which is too one-sided", conflicts, len(x))
	}
	return m
}

// The tests below compare whole outputs, conflicts included. Line ends beside a marker are exempt; TestText
// has examples for them. If a last line has no newline, diff3 puts a marker on that same line. diff3 ends
// markers in LF; git does so too if one of the three has no line that ends.
var (
	markerShown  = `(<<<<<<< MINE|\|\|\|\|\|\|\| OLD|=======|>>>>>>> THEIRS)`
	beforeMarker = regexp.MustCompile(`\r?\n` + markerShown)
	behindMarker = regexp.MustCompile(markerShown + `\r?\n`)
)

func exempted(text []byte) []byte {
	return beforeMarker.ReplaceAll(behindMarker.ReplaceAll(text, []byte("$1\n")), []byte("$1"))
}

var (
	oldPart    = regexp.MustCompile(`(?s)\|\|\|\|\|\|\| OLD\r?\n.*?=======`)
	sameChange = regexp.MustCompile(`(?s)<<<<<<< OLD\n.*?=======\n(.*?)>>>>>>> THEIRS\n`)
)

// TestThreeIsGNU compares with diff3. For diff3 -E it drops old's lines from our conflicts. In the output of
// diff3 -A it resolves the conflicts over the same change, which have no MINE.
func TestThreeIsGNU(t *testing.T) {
	gnu(t, "diff3")
	asItIs := func(text []byte) []byte { return text }
	for i, c := range []struct {
		option       string
		ours, theirs func([]byte) []byte
	}{
		{"-E", func(text []byte) []byte { return oldPart.ReplaceAll(text, []byte("=======")) }, asItIs},
		{"-A", asItIs, func(text []byte) []byte { return sameChange.ReplaceAll(text, []byte("$1")) }},
	} {
		t.Run(c.option, func(t *testing.T) {
			t.Parallel()
			x := examples(i*1_000_000, 1000)
			gnus := mergedBy(t, layOut(t, x), len(x), "diff3 -a -m "+c.option)
			for i, m := range merges(t, x) {
				if got, want := exempted(c.ours(m.Content)),
					exempted(c.theirs(gnus[i].content)); !bytes.Equal(
					got,
					want,
				) {
					t.Errorf("%s\nmerged to\n%s\ndiff3 %s has\n%s", x[i], got, c.option, want)
				}
				if c.option == "-E" && (m.Conflicts > 0) != (gnus[i].status == 1) {
					t.Errorf("%s\n%d conflicts, diff3 -E exits with %d", x[i], m.Conflicts, gnus[i].status)
				}
			}
		})
	}
}

// TestThreeIsGit gives the merge the edits that git finds; then it must do what git does. With our own edits
// it does so in all but one of a hundred examples, in which git aligns lines otherwise than GNU diff.
//
// Conflicts that show the same on both sides are exempt: git merge-file --diff3 writes them if the sides came
// to it by different edits.
func TestThreeIsGit(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	t.Parallel()
	x := examples(2_000_000, 2000)
	dir := layOut(t, x)
	gits := mergedBy(t, dir, len(x), "git merge-file -p --diff3")
	mine, theirs := gitEdits(t, dir, "mine"), gitEdits(t, dir, "theirs")
	others := 0
	for i, m := range merges(t, x) {
		want := resolveAlike(gits[i].content)
		if got := resolveAlike(byEdits(t, x[i], mine[i], theirs[i])); !bytes.Equal(
			exempted(got),
			exempted(want),
		) {
			t.Errorf("%s\nmerged by git's edits to\n%s\ngit has\n%s", x[i], got, want)
		}
		if clean := !conflictShown.Match(want); clean != (m.Conflicts == 0) ||
			clean && !bytes.Equal(m.Content, want) {
			others++
		}
	}
	if others > len(x)/40 {
		t.Errorf(
			"of %d examples %d are merged otherwise than by git, which is more than its other alignments "+
				"explain",
			len(x),
			others,
		)
	}
}

// byEdits merges with edits that are not our own.
func byEdits(t *testing.T, x threeTexts, mine, theirs []edit) []byte {
	m, err := newThreeWay(x.old, x.mine, x.theirs, threeNames)
	if err != nil {
		t.Fatal(err)
	}
	m.mine.edits, m.theirs.edits = mine, theirs
	m.run()
	return m.out.Bytes()
}

var conflictShown = regexp.MustCompile(
	`(?s)<<<<<<< MINE\r?\n(.*?)\|\|\|\|\|\|\| OLD\r?\n.*?=======\r?\n(.*?)>>>>>>> THEIRS\r?\n`,
)

// resolveAlike resolves conflicts that show the same on both sides.
func resolveAlike(text []byte) []byte {
	return conflictShown.ReplaceAllFunc(text, func(c []byte) []byte {
		if parts := conflictShown.FindSubmatch(c); bytes.Equal(parts[1], parts[2]) {
			return parts[1]
		}
		return c
	})
}

// gitEdits returns the edits that git merge-file finds, by example. A side that equals old has none. With a
// line of context git diff compares whole texts, as git merge-file does; without, it would leave out equal
// ends.
func gitEdits(t *testing.T, dir, side string) map[int][]edit {
	out, err := tool(dir, "sh", "-c",
		"git diff --no-index --no-indent-heuristic -a -U1 old "+side+"; [ $? -le 1 ]")
	if err != nil {
		t.Fatal(err, out)
	}
	edits := map[int][]edit{}
	for _, section := range strings.Split("\n"+out, "\ndiff --git a/old/")[1:] {
		name, _, _ := strings.Cut(section, " ")
		i, err := strconv.Atoi(name)
		if err != nil {
			t.Fatal(err)
		}
		_, hunks, _ := strings.Cut(section, "\n@@ ")
		edits[i] = editsOfHunks(t, "@@ "+hunks)
	}
	return edits
}

// editsOfHunks makes edits from the lines of a unified diff.
func editsOfHunks(t *testing.T, hunks string) []edit {
	var edits []edit
	var at edit // the place of the next change
	for line := range strings.Lines(hunks) {
		switch line[0] {
		case '@':
			start := hunkStart(t, []byte(line))
			at = edit{start, start, at.b1 + start - at.a1, at.b1 + start - at.a1}
		case ' ':
			at = edit{at.a1 + 1, at.a1 + 1, at.b1 + 1, at.b1 + 1}
		case '-':
			at.a1++
		case '+':
			at.b1++
		}
		edits = withEdit(edits, at)
	}
	return edits
}

// withEdit adds an edit, or extends the last one if it continues that.
func withEdit(edits []edit, e edit) []edit {
	switch n := len(edits); {
	case e.a0 == e.a1 && e.b0 == e.b1:
		return edits
	case n > 0 && edits[n-1].a0 == e.a0 && edits[n-1].b0 == e.b0:
		edits[n-1] = e
		return edits
	}
	return append(edits, e)
}
