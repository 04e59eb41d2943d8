package merge

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// gnu skips a test if the system's tool is missing or is not GNU's, as on FreeBSD.
func gnu(t *testing.T, tool string) {
	t.Helper()
	if out, err := exec.Command(tool, "--version").Output(); err != nil ||
		!bytes.Contains(out, []byte("GNU")) {
		t.Skipf("no GNU %s here", tool)
	}
}

// gnuHunks returns what diff -u prints after its two lines of names.
func gnuHunks(t rapid.TB, dir string, old, new []byte, context int) []byte {
	write(t, filepath.Join(dir, "old"), old)
	write(t, filepath.Join(dir, "new"), new)
	cmd := exec.Command("diff", "-a", "-U", strconv.Itoa(context), "old", "new")
	cmd.Dir = dir
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() == 0 {
		return nil
	}
	if cmd.ProcessState.ExitCode() != 1 {
		t.Fatal(err)
	}
	return bytes.SplitN(out, newline, 3)[2]
}

func write(t rapid.TB, name string, content []byte) {
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// kindsOfLine are distributions of lines. A random line is made from a number below the first value or, once
// in a while, below the second.
var kindsOfLine = [][2]int{{1, 2}, {2, 2}, {2, 30}, {5, 5}, {5, 300}, {20, 20}, {200, 200}, {3, 1000}}

func randomLines(kinds [2]int, most int) *rapid.Generator[[]string] {
	line := rapid.Custom(func(t *rapid.T) string {
		if rapid.IntRange(0, 2).Draw(t, "common") == 0 {
			return fmt.Sprintf("line %d\n", rapid.IntRange(0, kinds[1]-1).Draw(t, "n"))
		}
		return fmt.Sprintf("line %d\n", rapid.IntRange(0, kinds[0]-1).Draw(t, "n"))
	})
	return rapid.SliceOfN(line, 0, most)
}

// edited draws a text made from another by deleting, inserting and replacing a few lines.
func edited(t *rapid.T, lines []string, kinds [2]int) []string {
	for range rapid.IntRange(0, 6).Draw(t, "edits") {
		from := rapid.IntRange(0, len(lines)).Draw(t, "from")
		to := min(len(lines), from+rapid.IntRange(0, 4).Draw(t, "deleted"))
		added := randomLines(kinds, 4).Draw(t, "added")
		lines = append(append(append([]string(nil), lines[:from]...), added...), lines[to:]...)
	}
	return lines
}

// joined returns a text of lines. The last one may lack its newline.
func joined(t *rapid.T, lines []string) []byte {
	s := strings.Join(lines, "")
	if rapid.IntRange(0, 3).Draw(t, "cut") == 0 {
		s = strings.TrimSuffix(s, "\n")
	}
	return []byte(s)
}

func TestUnifiedIsGNU(t *testing.T) {
	gnu(t, "diff")
	for _, kinds := range kindsOfLine {
		t.Run(fmt.Sprint(kinds), func(t *testing.T) {
			dir := t.TempDir()
			rapid.Check(t, func(t *rapid.T) {
				a := randomLines(kinds, 150).Draw(t, "old lines")
				b := edited(t, a, kinds)
				if rapid.Bool().Draw(t, "unrelated") {
					b = randomLines(kinds, 150).Draw(t, "new lines")
				}
				old, new := joined(t, a), joined(t, b)
				context := rapid.IntRange(0, 4).Draw(t, "context")
				got, err := Unified(old, new, context)
				if err != nil {
					t.Fatal(err)
				}
				if want := gnuHunks(t, dir, old, new, context); !bytes.Equal(got, want) {
					t.Fatalf("diff -U%d of %q and %q:\n%s\nwant\n%s", context, old, new, got, want)
				}
			})
		})
	}
}

// TestUnifiedGivesUpAsGNU compares texts so different that GNU diff no longer looks for a shortest script.
func TestUnifiedGivesUpAsGNU(t *testing.T) {
	gnu(t, "diff")
	old, new := scrambled(12000, 40, 1), scrambled(11000, 40, 2)
	got, err := Unified(old, new, 3)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, gnuHunks(t, t.TempDir(), old, new, 3)) {
		t.Error("not what diff -u prints")
	}
	if shorter := minimal(t, old, new); shorter >= bytes.Count(got, newline) {
		t.Errorf("diff --minimal has no shorter script than this one of %d lines: nothing was given up",
			shorter)
	}
}

func minimal(t *testing.T, old, new []byte) int {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "old"), old)
	write(t, filepath.Join(dir, "new"), new)
	out, _ := exec.Command("diff", "--minimal", "-u", filepath.Join(dir, "old"), filepath.Join(dir, "new")).
		Output()
	return bytes.Count(out, newline) - 2
}

// scrambled returns a text of n lines of some kinds, in an order without pattern that is always the same.
func scrambled(n, kinds, seed int) []byte {
	var b bytes.Buffer
	x := uint64(seed)
	for range n {
		x = x*6364136223846793005 + 1442695040888963407
		fmt.Fprintf(&b, "%d\n", (x>>33)%uint64(kinds))
	}
	return b.Bytes()
}

func TestUnifiedTooLarge(t *testing.T) {
	for name, pair := range map[string][2][]byte{
		"too many lines": {bytes.Repeat([]byte("a\n"), maxLines/2),
			bytes.Repeat([]byte("b\n"), maxLines/2+1)},
		"too many differences": {scrambled(400_000, 2, 1), scrambled(400_000, 2, 2)},
	} {
		if hunks, err := Unified(pair[0], pair[1], 3); !errors.Is(err, ErrTooLarge) || hunks != nil {
			t.Errorf("%s: %d bytes of hunks, %v, want %v", name, len(hunks), err, ErrTooLarge)
		}
	}
	most := bytes.Repeat([]byte("a\n"), maxLines)
	if hunks, err := Unified(most, append(most[:len(most):len(most)], "b\n"...), 3); err != nil ||
		len(hunks) == 0 {
		t.Errorf("a line behind many equal ones: %d bytes of hunks, %v", len(hunks), err)
	}
}

// TestUnifiedManyLines numbers more lines than there are code points below the surrogates.
func TestUnifiedManyLines(t *testing.T) {
	var old, new bytes.Buffer
	for i := range 70_000 {
		fmt.Fprintf(&old, "%d\n", i)
		fmt.Fprintf(&new, "%d\n", i+i%2*200_000)
	}
	hunks, err := Unified(old.Bytes(), new.Bytes(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(hunks, []byte("@@ -")); n != 35_000 {
		t.Errorf("%d hunks, want 35000", n)
	}
	if got := apply(t, old.Bytes(), hunks); !bytes.Equal(got, new.Bytes()) {
		t.Error("the hunks do not give the new text")
	}
}

func FuzzUnified(f *testing.F) {
	for _, s := range [][2]string{{"", ""}, {"", "a\n"}, {"a", "a\n"}, {"a\nb\nc\n", "a\nc\nb"},
		{"a\r\n", "a\n"}, {"\\ a\n", "-- b\n"}, {"\x00\xff\n", "\xfe"}} {
		f.Add([]byte(s[0]), []byte(s[1]), 3)
	}
	f.Fuzz(func(t *testing.T, old, new []byte, context int) {
		hunks, err := Unified(old, new, context%100)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(old, new) != (len(hunks) == 0) {
			t.Fatalf("%q, %q: hunks %q", old, new, hunks)
		}
		if got := apply(t, old, hunks); !bytes.Equal(got, new) {
			t.Fatalf("%q, %q: the hunks\n%s\ngive %q", old, new, hunks, got)
		}
	})
}

// apply does what hunks say, and checks each of their lines against the old text.
func apply(t *testing.T, old, hunks []byte) []byte {
	var out bytes.Buffer
	in := lines(old)
	done := 0
	take := func(want []byte) {
		if done >= len(in) || !bytes.Equal(in[done], want) {
			t.Fatalf("line %d of the old text is not %q", done+1, want)
		}
		done++
	}
	all := lines(hunks)
	for i, l := range all {
		mark, text := l[0], l[1:]
		if i+1 < len(all) && all[i+1][0] == '\\' {
			text = bytes.TrimSuffix(text, newline)
		}
		switch mark {
		case '@':
			for from := hunkStart(t, l); done < from; done++ {
				out.Write(in[done])
			}
		case ' ':
			take(text)
			out.Write(text)
		case '-':
			take(text)
		case '+':
			out.Write(text)
		}
	}
	out.Write(bytes.Join(in[done:], nil))
	return out.Bytes()
}

// hunkStart returns the number of old lines before a hunk.
func hunkStart(t *testing.T, header []byte) int {
	old := strings.Split(strings.Fields(string(header))[1], ",")
	n, err := strconv.Atoi(strings.TrimPrefix(old[0], "-"))
	if err != nil {
		t.Fatal(err)
	}
	if len(old) == 2 && old[1] == "0" {
		return n
	}
	return n - 1
}

func TestBinary(t *testing.T) {
	for content, want := range map[string]bool{
		"": false, "text\n": false, "gr\xfcn": false, "a\x00": true,
		strings.Repeat("a", 7999) + "\x00": true, strings.Repeat("a", 8000) + "\x00": false,
	} {
		if got := Binary([]byte(content)); got != want {
			t.Errorf("Binary of %d bytes is %v, want %v", len(content), got, want)
		}
	}
}
