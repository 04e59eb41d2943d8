// Package conffiletest writes the files of a machine for tests, and compares problems with those expected.
package conffiletest

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"cfgd/config/conffile"
)

// Machine writes files below a new --root directory; a name that ends in a slash is a directory.
func Machine(t testing.TB, files map[string]string) string {
	t.Helper()
	root, tree := t.TempDir(), fstest.MapFS{}
	for name, text := range files {
		f := &fstest.MapFile{Data: []byte(text), Mode: 0o644}
		if strings.HasSuffix(name, "/") {
			f.Mode = fs.ModeDir | 0o755
		}
		tree[strings.Trim(name, "/")] = f
	}
	if err := os.CopyFS(root, tree); err != nil {
		t.Fatal(err)
	}
	return root
}

// ProblemLines formats problems as tests name them: FILE:LINE severity: a part of the message.
func ProblemLines(ps []conffile.Problem) []string {
	var out []string
	for _, p := range ps {
		out = append(out, fmt.Sprintf("%s %s: %s", conffile.At(p.File, p.Line), p.Severity, p.Message))
	}
	return out
}

// WantProblems compares problems by beginning, so that a test reads as what the administrator sees.
func WantProblems(t testing.TB, ps []conffile.Problem, want ...string) {
	t.Helper()
	got := ProblemLines(ps)
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("missing problem: %s", want[i])
		case i >= len(want):
			t.Errorf("problem not expected: %s", got[i])
		case !strings.HasPrefix(got[i], want[i]):
			t.Errorf("problem %d:\n got %s\nwant %s", i, got[i], want[i])
		}
	}
	for _, p := range ps {
		if p.Fix == "" || p.Kind == "" {
			t.Errorf("problem without a fix or a kind: %s", p)
		}
	}
}
