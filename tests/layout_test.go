package tests

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// rooms lists the packages from the lowest to the uppermost, and which other packages each may import. A
// package may import only packages of earlier rows.
var rooms = []struct{ room, may string }{
	{"internal/pathname", ""},
	{"internal/ctxio", ""},
	{"internal/flock", ""},
	{"internal/run", ""},
	{"internal/dirfd", ""},
	{"internal/disk", ""},
	{"internal/esp", "internal/disk"},
	{"internal/ufs", ""},
	{"internal/hostfile", "internal/dirfd internal/flock"},
	{"config/conffile", "internal/hostfile"},
	{"config/fstab", "config/conffile"},
	{"config/jailconf", "config/conffile"},
	{"config/rcconf", "config/conffile"},
	{"config/pattern", ""},
	{"config/tomldoc", "config/conffile"},
	{"internal/mount", "internal/flock internal/run"},
	{"config", "config/conffile config/fstab config/jailconf config/pattern config/rcconf config/tomldoc " +
		"internal/hostfile internal/mount"},
	{"overlay/tree", "internal/ctxio internal/dirfd internal/pathname"},
	{"overlay/store", "config internal/dirfd internal/pathname overlay/tree"},
	{"merge", "config internal/dirfd internal/pathname overlay/store overlay/tree"},
	{"merge/check", "config internal/pathname internal/run merge"},
	{"overlay", "config config/conffile internal/ctxio internal/dirfd internal/flock internal/hostfile " +
		"internal/mount internal/pathname merge overlay/store overlay/tree"},
	{"watcher/control", "config internal/pathname overlay overlay/store"},
	{"watcher", "config internal/dirfd internal/flock internal/pathname overlay overlay/store " +
		"overlay/tree watcher/control"},
	{"jailhooks", "config config/fstab internal/dirfd internal/flock internal/hostfile internal/mount " +
		"internal/pathname internal/run merge merge/check overlay overlay/store overlay/tree"},
	{"prototype", "config config/conffile internal/dirfd internal/flock internal/hostfile internal/mount " +
		"internal/pathname internal/run overlay overlay/tree"},
	{"jails", "config config/conffile config/fstab internal/dirfd internal/flock internal/hostfile " +
		"internal/mount internal/run jailhooks merge overlay overlay/tree prototype"},
	{"internal/xzguard", ""},
	{"nano", "config config/conffile internal/ctxio internal/disk internal/esp internal/flock " +
		"internal/hostfile internal/mount internal/run internal/ufs internal/xzguard"},
	{"setup", "config config/conffile internal/hostfile"},
	{"report", "config internal/hostfile internal/pathname internal/run overlay watcher/control"},
	{"cmd/cfgd", "*"},
}

// helpers are packages that only tests import. They may import any package.
var helpers = []string{"config/conffile/conffiletest", "internal/disk/disktest", "internal/esp/esptest",
	"internal/machinetest", "internal/memtest", "tests/bench", "tests/zfs"}

// wrongImports lists the imports that the table does not allow. imports has, for each room, the rooms that
// its files import.
func wrongImports(imports map[string][]string) (wrong []string) {
	above := map[string]bool{}
	for _, r := range rooms {
		may := strings.Fields(r.may)
		for _, m := range may {
			if m != "*" && !above[m] {
				wrong = append(wrong,
					fmt.Sprintf("the table lets %s import %s, which is no lower room", r.room, m))
			}
		}
		for _, i := range imports[r.room] {
			if !slices.Contains(may, i) && !slices.Contains(may, "*") {
				wrong = append(wrong, fmt.Sprintf("%s imports %s", r.room, i))
			}
		}
		above[r.room] = true
	}
	for room := range imports {
		if !above[room] && !slices.Contains(helpers, room) {
			wrong = append(wrong, room+" has no row in the table")
		}
	}
	slices.Sort(wrong)
	return wrong
}

// programImports reads the imports of all files of the program, for every system.
func programImports(t *testing.T) map[string][]string {
	imports := map[string][]string{}
	err := filepath.WalkDir("..", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (name != ".." && strings.HasPrefix(e.Name(), ".") || e.Name() == "testdata"):
			return filepath.SkipDir
		case e.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		room := filepath.ToSlash(strings.TrimPrefix(filepath.Dir(name), "../"))
		imports[room] = append(imports[room], []string{}...)
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			if rel, own := strings.CutPrefix(p, "cfgd/"); own && !slices.Contains(imports[room], rel) {
				imports[room] = append(imports[room], rel)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return imports
}

// Rooms import only lower rooms, and only those that the table allows.
func TestLayout(t *testing.T) {
	imports := programImports(t)
	if len(imports["overlay"]) == 0 || len(imports["cmd/cfgd"]) == 0 {
		t.Fatalf("nothing was read: %v", imports)
	}
	for _, w := range wrongImports(imports) {
		t.Error(w)
	}
	// The comparison finds what it has to find.
	for name, c := range map[string]struct {
		room, imported, want string
	}{
		"an upper room": {"overlay/tree", "overlay", "overlay/tree imports overlay"},
		"no row":        {"help", "config", "help has no row in the table"},
		"a lower room":  {"setup", "overlay", "setup imports overlay"},
	} {
		bad := map[string][]string{c.room: {c.imported}}
		if got := wrongImports(bad); len(got) != 1 || got[0] != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// The measures of the source: files in a room, lines in a file, columns in a line. A tab takes four columns.
const (
	maxFiles   = 20
	maxLines   = 400
	maxColumns = 110
)

// Rooms, files and lines stay small enough to be read at once. cmd/cfgd has a file for each command.
func TestMeasures(t *testing.T) {
	for room := range programImports(t) {
		names, err := filepath.Glob("../" + room + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		files := 0
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			test := strings.HasSuffix(name, "_test.go")
			if !test {
				files++
			}
			n := 0
			for line := range strings.Lines(string(text)) {
				n++
				line = strings.ReplaceAll(strings.TrimSuffix(line, "\n"), "\t", "    ")
				if columns := utf8.RuneCountInString(line); columns > maxColumns {
					t.Errorf("%s:%d: %d columns", name, n, columns)
				}
			}
			if !test && n > maxLines {
				t.Errorf("%s: %d lines", name, n)
			}
		}
		if files > maxFiles && room != "cmd/cfgd" {
			t.Errorf("%s: %d files", room, files)
		}
	}
}

// startsProgram finds what starts a program.
var startsProgram = regexp.MustCompile(`\b(exec\.Command|os\.StartProcess|syscall\.ForkExec|unix\.Exec)`)

// Only package run starts programs.
func TestOneRunner(t *testing.T) {
	var starts []string
	for room := range programImports(t) {
		if slices.Contains(helpers, room) {
			continue
		}
		names, err := filepath.Glob("../" + room + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(name, "_test.go") && startsProgram.Match(text) {
				starts = append(starts, room)
			}
		}
	}
	slices.Sort(starts)
	if starts = slices.Compact(starts); !slices.Equal(starts, []string{"internal/run"}) {
		t.Errorf("programs are started in %v, and should be only in internal/run", starts)
	}
}

// tourPath finds the files and directories of the source that the tour of CONTRIBUTING.md names.
var tourPath = regexp.MustCompile("`((?:config|overlay|merge|watcher|jailhooks|jails|prototype|nano|" +
	"setup|report|internal|cmd|tests|man|docs)[a-z0-9_./]*)`")

// The tour names every room, and no file that does not exist.
func TestTour(t *testing.T) {
	text, err := os.ReadFile("../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range tourPath.FindAllStringSubmatch(string(text), -1) {
		named[m[1]] = true
		if _, err := os.Stat(filepath.Join("..", m[1])); err != nil {
			t.Errorf("CONTRIBUTING.md names %s: %v", m[1], err)
		}
	}
	for _, r := range rooms {
		if !named[r.room] {
			t.Errorf("CONTRIBUTING.md does not name the room %s", r.room)
		}
	}
}
