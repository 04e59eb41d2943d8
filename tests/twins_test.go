package tests

import (
	"fmt"
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// noTwin lists declarations that only one system needs, with the reason. A key is DIR/NAME for a declaration
// (DIR/TYPE.METHOD for a method), or the path of a file for everything in it. An entry that is not needed is
// an error.
var noTwin = map[string]string{
	"internal/dirfd/flags_freebsd_test.go": "chflags(2), which Linux does not have; there " +
		"change_linux_test.go plays it",
	"internal/dirfd/identity_freebsd_test.go": "records of an older program on FreeBSD; " +
		"TestPresentIdentity has them for all systems",
	"internal/dirfd/change_linux_test.go": "plays the flags of chflags(2); on FreeBSD " +
		"flags_freebsd_test.go has the true ones",
	"internal/hostfile/flags_freebsd_test.go": "chflags(2), which Linux does not have",
	"prototype/snapshots_freebsd_test.go":     "chflags(2), which Linux does not have",
	"overlay/flags_freebsd_test.go":           "chflags(2), which Linux does not have",
	"overlay/identity_freebsd_test.go": "a record of an older program on FreeBSD; " +
		"TestRecordOfOlderForm has it for all systems",
	"overlay/device": "mknod(2) takes the number as int on Linux and as uint64 " +
		"on FreeBSD",
	"overlay/mount_linux_test.go": "mounts tmpfs of a size in a mount namespace, which " +
		"FreeBSD does not have",
	"tests/root/earlier_linux_test.go": "mounts over what is mounted, in a mount namespace; on " +
		"FreeBSD tests/freebsd/busy.sh does it",
	"tests/root/host_linux_test.go": "plays a NanoBSD host in a mount namespace; on FreeBSD " +
		"tests/freebsd does it",
	"tests/root/jail_linux_test.go": "plays jail(8) in a mount namespace; on FreeBSD " +
		"tests/freebsd runs jail(8)",
	"tests/root/outside_linux_test.go": "uses strace(1) of Linux; what it tests is of no system",
	"tests/root/switch_linux_test.go": "plays jail(8) in a mount namespace; on FreeBSD " +
		"tests/freebsd runs jail(8)",
	"watcher/vnodes_linux_test.go": "plays kqueue(2) by inotify(7), so that the source of " +
		"FreeBSD runs on Linux",
	"tests/zfs/zfs_linux_test.go": "runs in a virtual machine of Linux; on FreeBSD " +
		"tests/freebsd uses the machine's own ZFS",
}

// sourceFile has what the comparison of the systems needs to know of a file.
type sourceFile struct {
	path  string
	on    map[string]bool // by system: whether the file is built there
	decls []declaration
	uses  map[string]bool // names that the file does not declare
	dots  map[string]bool // names after a dot: fields and methods of any type
}

// declaration is what a file declares at its top level: a function, method, type, constant or variable.
type declaration struct {
	name  string // TYPE.METHOD for a method
	shape string // what users depend on: a signature, or a kind and exported fields
	file  *sourceFile
}

const freebsd, linux = "freebsd", "linux"

// builtOn reports whether a file is built on a system, by its name and its //go:build line.
func builtOn(system, name string, f *ast.File) (bool, error) {
	others := map[string]bool{freebsd: true, linux: true, "darwin": true, "dragonfly": true, "netbsd": true,
		"openbsd": true, "windows": true}
	delete(others, system)
	base := strings.TrimSuffix(strings.TrimSuffix(path.Base(name), ".go"), "_test")
	if slices.ContainsFunc(strings.Split(base, "_")[1:], func(p string) bool { return others[p] }) {
		return false, nil
	}
	for _, group := range f.Comments {
		for _, c := range group.List {
			if c.Pos() > f.Package || !constraint.IsGoBuild(c.Text) {
				continue
			}
			x, err := constraint.Parse(c.Text)
			if err != nil {
				return false, fmt.Errorf("%s: %w", name, err)
			}
			return x.Eval(func(tag string) bool {
				return tag == system || tag == "unix" || tag == "amd64" || tag == "gc" ||
					strings.HasPrefix(tag, "go1.")
			}), nil
		}
	}
	return true, nil
}

func parseFile(name, text string) (*sourceFile, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, text, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	s := &sourceFile{path: name, on: map[string]bool{}, uses: map[string]bool{}, dots: map[string]bool{}}
	for _, system := range []string{freebsd, linux} {
		if s.on[system], err = builtOn(system, name, f); err != nil {
			return nil, err
		}
	}
	for _, d := range f.Decls {
		s.declare(fset, d)
	}
	for _, id := range f.Unresolved {
		s.uses[id.Name] = true
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			s.dots[sel.Sel.Name] = true
		}
		return true
	})
	return s, nil
}

func (s *sourceFile) declare(fset *token.FileSet, d ast.Decl) {
	add := func(name, shape string) {
		if name != "_" && name != "init" {
			s.decls = append(s.decls, declaration{name, shape, s})
		}
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		name := d.Name.Name
		if d.Recv != nil {
			name = strings.TrimPrefix(source(fset, d.Recv.List[0].Type), "*") + "." + name
		}
		add(name, "func"+types(fset, d.Type.Params)+types(fset, d.Type.Results))
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				add(spec.Name.Name, "type "+typeShape(fset, spec))
			case *ast.ValueSpec:
				for _, n := range spec.Names {
					add(n.Name, strings.TrimSpace(d.Tok.String()+" "+source(fset, spec.Type)))
				}
			}
		}
	}
}

// source returns a node as gofmt writes it; "" for nil.
func source(fset *token.FileSet, n ast.Expr) string {
	if n == nil {
		return ""
	}
	var b strings.Builder
	if err := printer.Fprint(&b, fset, n); err != nil {
		return err.Error()
	}
	return b.String()
}

// types returns the types of parameters or results, without names.
func types(fset *token.FileSet, l *ast.FieldList) string {
	var out []string
	if l != nil {
		for _, f := range l.List {
			out = append(out, slices.Repeat([]string{source(fset, f.Type)}, max(len(f.Names), 1))...)
		}
	}
	return "(" + strings.Join(out, ", ") + ")"
}

// typeShape leaves out the unexported fields of a struct, because they may differ between systems.
func typeShape(fset *token.FileSet, t *ast.TypeSpec) string {
	st, ok := t.Type.(*ast.StructType)
	if !ok {
		return source(fset, t.Type)
	}
	var fields []string
	for _, f := range st.Fields.List {
		for _, n := range f.Names {
			if n.IsExported() {
				fields = append(fields, n.Name+" "+source(fset, f.Type))
			}
		}
	}
	return "struct{" + strings.Join(fields, "; ") + "}"
}

// twins compares the declarations of one package for one system with those for the other. It returns one line
// for each fault. Tests are compared with tests. excused collects the entries of noTwin that were needed.
func twins(dir string, files []*sourceFile, noTwin map[string]string, excused map[string]bool) []string {
	var wrong []string
	for _, side := range [][2]string{{freebsd, linux}, {linux, freebsd}} {
		own, other := side[0], side[1]
		there := map[string]declaration{}
		for _, f := range files {
			for _, d := range f.decls {
				if f.on[other] {
					there[d.name] = d
				}
			}
		}
		for _, f := range files {
			if !f.on[own] || f.on[other] {
				continue
			}
			for _, d := range f.decls {
				t, twin := there[d.name]
				switch {
				case twin && (t.shape == d.shape || own == linux): // a difference is reported once
				case !twin && !needed(d, own, other, files, there):
				case has(noTwin, excused, f.path), has(noTwin, excused, path.Join(dir, d.name)):
				case !twin:
					wrong = append(wrong, fmt.Sprintf("%s: %s is declared for %s alone", f.path, d.name, own))
				default:
					wrong = append(wrong, fmt.Sprintf("%s: %s is %q, and %q in %s",
						f.path, d.name, d.shape, t.shape, t.file.path))
				}
			}
		}
	}
	return wrong
}

func has(noTwin map[string]string, excused map[string]bool, key string) bool {
	_, ok := noTwin[key]
	if ok {
		excused[key] = true
	}
	return ok
}

// needed reports whether the other system needs a declaration too: it is exported, or a file that is built on
// the other system uses it. Methods of a type that only one system has are not needed.
func needed(d declaration, own, other string, files []*sourceFile, there map[string]declaration) bool {
	typ, method, isMethod := strings.Cut(d.name, ".")
	name := d.name
	if isMethod {
		if _, both := there[typ]; !both {
			return false
		}
		name = method
	}
	if ast.IsExported(name) {
		return true
	}
	return slices.ContainsFunc(files, func(f *sourceFile) bool {
		return f.on[own] && f.on[other] && (isMethod && f.dots[name] || !isMethod && f.uses[name])
	})
}

// Each declaration for FreeBSD has a counterpart for Linux, and the other way round.
func TestEverySystemHasItsTwin(t *testing.T) {
	packages := map[string][]*sourceFile{}
	err := filepath.WalkDir("..", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && (name != ".." && strings.HasPrefix(e.Name(), ".") || e.Name() == "testdata"):
			return filepath.SkipDir
		case e.IsDir() || !strings.HasSuffix(name, ".go"):
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel := strings.TrimPrefix(filepath.ToSlash(name), "../")
		f, err := parseFile(rel, string(text))
		packages[path.Dir(rel)] = append(packages[path.Dir(rel)], f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	excused := map[string]bool{}
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		for _, line := range twins(dir, packages[dir], noTwin, excused) {
			t.Error(line)
		}
	}
	for key, why := range noTwin {
		if !excused[key] || why == "" {
			t.Errorf("noTwin: %s excuses nothing, or has no reason", key)
		}
	}
}

func TestTwins(t *testing.T) {
	common := "package p\nfunc run(d Dir) { helper := 1; _ = helper; flag(d); d.sync() }\n"
	bsd := "package p\nconst Info = 1\ntype Dir struct { N int; fd int }\nfunc (d *Dir) sync() {}\n" +
		"func flag(d Dir) error { return helper() }\nfunc helper() error { return nil }\n"
	lin := "package p\nconst Info = 2\ntype Dir struct { N int; path string }\nfunc (e *Dir) sync() {}\n" +
		"func flag(x Dir) error { return nil }\n"
	noInfo := strings.Replace(lin, "const Info = 2\n", "", 1)
	without := func(text, line string) string { return strings.Replace(text, line, "", 1) }
	tests := map[string]struct {
		bsd, lin, other string // other is a further file, by its //go:build line
		noTwin          map[string]string
		want            []string
	}{
		"the same": {bsd: bsd, lin: lin},
		"a function": {bsd: bsd, lin: without(lin, "func flag(x Dir) error { return nil }\n"),
			want: []string{"p/a_freebsd.go: flag is declared for freebsd alone"}},
		"a function of Linux": {bsd: without(bsd, "func flag(d Dir) error { return helper() }\n"), lin: lin,
			want: []string{"p/a_linux.go: flag is declared for linux alone"}},
		"a method": {bsd: bsd, lin: without(lin, "func (e *Dir) sync() {}\n"),
			want: []string{"p/a_freebsd.go: Dir.sync is declared for freebsd alone"}},
		"a constant": {bsd: bsd, lin: noInfo,
			want: []string{"p/a_freebsd.go: Info is declared for freebsd alone"}},
		"a type, with its methods": {bsd: bsd,
			lin:  "package p\nconst Info = 2\nfunc flag(x Dir) error { return nil }\n",
			want: []string{"p/a_freebsd.go: Dir is declared for freebsd alone"}},
		"a signature": {bsd: bsd, lin: strings.Replace(lin, "flag(x Dir) error", "flag(x *Dir) error", 1),
			want: []string{
				`p/a_freebsd.go: flag is "func(Dir)(error)", and "func(*Dir)(error)" in p/a_linux.go`}},
		"an exported field": {bsd: bsd, lin: strings.Replace(lin, "N int", "N uint", 1),
			want: []string{
				`p/a_freebsd.go: Dir is "type struct{N int}", and "type struct{N uint}" in p/a_linux.go`}},
		"in another file": {bsd: bsd, lin: noInfo,
			other: "//go:build !freebsd\n\npackage p\nconst Info = 2\n"},
		"in a tagged file": {bsd: bsd, lin: lin, other: "//go:build freebsd\n\npackage p\nfunc More() {}\n",
			want: []string{"p/other.go: More is declared for freebsd alone"}},
		"for both": {bsd: bsd, lin: lin,
			other: "//go:build freebsd || linux\n\npackage p\nfunc More() {}\n"},
		"excused": {bsd: bsd, lin: noInfo,
			noTwin: map[string]string{"p/Info": "no such signal"}},
		"a whole file excused": {bsd: bsd, lin: noInfo, noTwin: map[string]string{"p/a_freebsd.go": "why"}},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			var files []*sourceFile
			texts := map[string]string{"p/run.go": common, "p/a_freebsd.go": c.bsd, "p/a_linux.go": c.lin,
				"p/other.go": c.other}
			for file, text := range texts {
				if text == "" {
					continue
				}
				f, err := parseFile(file, text)
				if err != nil {
					t.Fatal(err)
				}
				files = append(files, f)
			}
			excused := map[string]bool{}
			got := twins("p", files, c.noTwin, excused)
			if !slices.Equal(got, c.want) || len(excused) != len(c.noTwin) {
				t.Errorf("%q, excused %v", got, excused)
			}
		})
	}
}
