package hostfile

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A file whose flags forbid a change is an error that names them, and stays; others keep their flags.
func TestFlags(t *testing.T) {
	full := filepath.Join(t.TempDir(), "rc.conf")
	if err := os.WriteFile(full, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	flags := func(set string) {
		if out, err := exec.Command("chflags", set, full).CombinedOutput(); err != nil {
			t.Skipf("chflags %s: %s", set, out)
		}
	}
	flags("uchg")
	t.Cleanup(func() { exec.Command("chflags", "0", full).Run() })
	if err := Replace(full, []byte("new")); err == nil ||
		!strings.Contains(err.Error(), "chflags nouchg "+full) {
		t.Errorf("%v", err)
	}
	if b, _ := os.ReadFile(full); string(b) != "old" {
		t.Errorf("%q", b)
	}
	flags("nouchg,nodump")
	if err := Replace(full, []byte("new")); err != nil {
		t.Error(err)
	}
	out, err := exec.Command("stat", "-f", "%Sf", full).Output()
	if err != nil || !strings.Contains(string(out), "nodump") {
		t.Errorf("%q, %v", out, err)
	}
}
