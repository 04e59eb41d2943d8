package merge

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cfgd/internal/pathname"

	"pgregory.net/rapid"
)

// files holds files and symlinks by path. Directories are implied.
type files map[string]Side

// names has every form of a name, some of them in directories. None is a directory of another.
var names = []string{
	"rc.conf",
	"with blank",
	" blanks ",
	"tab\there",
	"new\nline",
	`quo"te`,
	`back\slash`,
	"gr\xfcn",
	"grün",
	"-n",
	"#hash",
	"# x (unsaved)",
	"trailing ",
	"dev/null",
	"d/deep/file",
	"d/deep/with blank",
	"d 2/b/x",
	"\x01\x7f",
	"'single'",
	"a -> b",
	"$HOME",
	"*",
}

// contentLine draws lines that look like parts of a diff, or have an odd end. They repeat, so that old and
// new have lines in common.
var contentLine = rapid.SampledFrom([]string{
	"a=1\n",
	"b=2\n",
	"\n",
	"# vhost1 x\n",
	"--- a/x\n",
	"+++ b/x\n",
	"@@ -1 +1 @@\n",
	"diff --git a/x b/x\n",
	"\\ No newline at end of file\n",
	"dos\r\n",
	"\r\n",
	" \t\n",
	"gr\xfcn\n",
	"-\n",
	"+\n",
	"deleted file mode 100644\n",
	"Index: x\n",
	"\f\n",
})

var content = rapid.Custom(func(t *rapid.T) string {
	s := strings.Join(rapid.SliceOfN(contentLine, 0, 12).Draw(t, "lines"), "")
	if rapid.IntRange(0, 3).Draw(t, "cut") == 0 {
		s = strings.TrimSuffix(s, "\n")
	}
	if rapid.IntRange(0, 9).Draw(t, "binary") == 0 {
		s = "\x00" + s
	}
	return s
})

var anything = rapid.Custom(func(t *rapid.T) Side {
	if rapid.IntRange(0, 3).Draw(t, "symlink") == 0 {
		return link(
			rapid.SampledFrom([]string{"x", "/dev/null", "../with blank", "gr\xfcn", "-n"}).Draw(t, "target"))
	}
	return file(rapid.SampledFrom([]uint32{0o644, 0o755, 0o600, 0o700}).Draw(t, "mode"),
		content.Draw(t, "content"))
})

func trees(t *rapid.T) (old, new files) {
	old, new = files{}, files{}
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, 8, rapid.ID).Draw(t, "names") {
		there := rapid.IntRange(0, 5).Draw(t, "there")
		if there != 0 {
			old[name] = anything.Draw(t, "old")
		}
		if there != 1 {
			new[name] = anything.Draw(t, "new")
		}
		if there == 2 { // the same except for its mode
			s := old[name]
			s.Mode = new[name].Mode
			new[name] = s
		}
	}
	return old, new
}

// diff returns the changes of a tree, with others in between that only people can read.
func diff(t rapid.TB, old, new files) []byte {
	both := maps.Clone(old)
	maps.Copy(both, new)
	var out bytes.Buffer
	for _, path := range slices.SortedFunc(maps.Keys(both), pathname.Compare) {
		for _, c := range []Change{
			change(path, old[path], new[path], unsaved),
			change(path+".d", special(Dir, 0o755), Side{}),
			change(path+".key", file(0o600, "old\n"), file(0o600, "new\n"), secret),
		} {
			if err := Write(&out, c, 3); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out.Bytes()
}

// shown returns the tree that results if only what a diff can express is done: binary contents stay as they
// were.
func shown(old, new files) files {
	result := files{}
	for path, s := range new {
		was, bin := old[path], func(s Side) bool { return s.Kind == File && Binary(s.Content) }
		switch {
		case was.Exists && was.Kind == s.Kind && !same(was, s) && (bin(was) || bin(s)):
			s.Content = was.Content
			result[path] = s
		case was.Exists && was.Kind == s.Kind:
			result[path] = s
		case bin(was):
			result[path] = was // what is not deleted is not replaced
		case !bin(s):
			result[path] = s
		}
	}
	for path, s := range old {
		if s.Kind == File && Binary(s.Content) && !new[path].Exists {
			result[path] = s
		}
	}
	return result
}

func build(t rapid.TB, dir string, tr files) {
	for path, s := range tr {
		name := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if s.Kind == Symlink {
			if err := os.Symlink(string(s.Content), name); err != nil {
				t.Fatal(err)
			}
			continue
		}
		write(t, name, s.Content)
		if err := os.Chmod(name, os.FileMode(s.Mode)); err != nil {
			t.Fatal(err)
		}
	}
}

// readFiles describes the files of a directory, with modes as git has them.
func readFiles(t rapid.TB, dir string) map[string]string {
	found := map[string]string{}
	err := filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		path, s := name[len(dir)+1:], Side{Exists: true, Kind: File}
		if d.Type() == os.ModeSymlink {
			target, err := os.Readlink(name)
			found[path] = gitMode(Side{Kind: Symlink}) + " " + target
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		s.Mode = uint32(info.Mode().Perm())
		s.Content, err = os.ReadFile(name)
		found[path] = gitMode(s) + " " + string(s.Content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (tr files) describe() map[string]string {
	found := map[string]string{}
	for path, s := range tr {
		found[path] = gitMode(s) + " " + string(s.Content)
	}
	return found
}

// tool runs a program in a directory, without the user's environment.
func tool(dir string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	home := filepath.Dir(dir)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + home,
		"LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1",
		"GIT_CONFIG_GLOBAL=/dev/null",
		"GIT_CEILING_DIRECTORIES=" + home,
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// applied applies a diff to a copy of the old files, and expects the new ones.
func applied(t *testing.T, args ...string) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		old, new := trees(t)
		work, patch := filepath.Join(dir, "work"), filepath.Join(dir, "patch")
		if err := os.RemoveAll(work); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(work, 0o755); err != nil {
			t.Fatal(err)
		}
		build(t, work, old)
		d := diff(t, old, new)
		write(t, patch, d)
		want, sections := shown(old, new).describe(), bytes.Contains(d, []byte("\ndiff --git "))
		if out, err := tool(work, args[0], append(args[1:], patch)...); sections &&
			(err != nil || out != "") {
			t.Fatalf("%v: %v\n%s\n%s", args, err, out, d)
		}
		if got := readFiles(t, work); !maps.Equal(got, want) {
			t.Fatalf("%v gives\n%q\nwant\n%q\n%s", args, got, want, d)
		}
	})
}

func TestPatchApplies(t *testing.T) {
	gnu(t, "patch")
	applied(t, "patch", "-p1", "-s", "--batch", "--fuzz=0", "--no-backup-if-mismatch", "-i")
}

func TestGitApplies(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("no git here")
	}
	applied(t, "git", "apply", "-p1", "--whitespace=nowarn")
}
