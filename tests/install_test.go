package tests

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// make install installs the files of the port's list and the samples. The program does not depend on who
// builds it, or where.
func TestInstall(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds the program twice")
	}
	for _, tool := range []string{"make", "go"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("no %s here", tool)
		}
	}
	var programs [][]byte
	for range 2 {
		src, stage := t.TempDir(), t.TempDir()
		if err := os.CopyFS(src, os.DirFS("..")); err != nil { // another directory each time
			t.Skipf("the sources cannot be copied: %v", err)
		}
		cmd := exec.Command("make", "install", "DESTDIR="+stage, "PREFIX=/usr/local",
			"BUILD=CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags=-buildid=")
		cmd.Dir = src
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make install: %v\n%s", err, out)
		}
		b, err := os.ReadFile(filepath.Join(stage, "usr/local/sbin/cfgd"))
		if err != nil {
			t.Fatal(err)
		}
		programs = append(programs, b)
		installed(t, filepath.Join(stage, "usr/local"))
	}
	if !bytes.Equal(programs[0], programs[1]) {
		t.Error("the two programs differ")
	}
}

func installed(t *testing.T, prefix string) {
	var got []string
	if err := filepath.WalkDir(prefix, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(prefix, p)
			got = append(got, rel)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile("../contrib/port/pkg-plist")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		name := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line), "@sample "), ".gz")
		if !slices.Contains(got, name) {
			t.Errorf("%s is in the port's list, and not installed", name)
		}
		got = slices.DeleteFunc(got, func(p string) bool { return p == name })
	}
	for _, p := range got {
		if !strings.HasPrefix(p, "share/examples/") {
			t.Errorf("%s is installed, and not in the port's list", p)
		}
	}
	out, err := exec.Command(filepath.Join(prefix, "sbin/cfgd"), "version").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "cfgd ") {
		t.Errorf("%v: %s", err, out)
	}
}
