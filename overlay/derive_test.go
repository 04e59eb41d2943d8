package overlay

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/merge"
)

// madeOf is what the programs of these tests make of a source.
func madeOf(path, source string) string { return "\x00" + path + " of " + source }

// product is what a path is if it is made of a source.
func (b *box) product(path, source string) string {
	if path != "passwd" {
		return madeOf(path, source)
	}
	p, err := merge.Passwd([]byte(source))
	b.must(err)
	return string(p)
}

// editAll writes a source, and what is made of it.
func (b *box) editAll(source, content string) {
	b.edit(source, content)
	for _, path := range merge.WithProducts([]string{source})[1:] {
		b.edit(path, b.product(path, content))
	}
}

// makers has all programs that make databases of files.
func makers(_ context.Context, source string, content []byte) (map[string][]byte, string, error) {
	for _, p := range merge.Products {
		if p.Source == source && len(p.Command) > 0 {
			made := map[string][]byte{}
			for _, path := range p.Makes {
				made[path] = []byte(madeOf(path, string(content)))
			}
			return made, "", nil
		}
	}
	return nil, "", exec.ErrNotFound
}

// newSources has a source in each state: the default of two bases, and two of the administrator's own.
func newSources(path string) (one, two, mine, later string) {
	if path != "master.passwd" {
		return text(9, nil), text(9, map[int]string{5: "two\n"}), text(9, map[int]string{5: "mine\n"}),
			text(9, map[int]string{5: "later\n"})
	}
	return masterOld, strings.Replace(masterOld, "/bin/csh", "/bin/sh", 1) + dbus,
		strings.Replace(account("HASH"), "/bin/csh", "/bin/bash", 1),
		strings.Replace(account("HASH"), "/bin/csh", "/bin/zsh", 1)
}

// changes are the ways in which cfgd changes a file of a target. Before, live and cfg have what the
// administrator saved of it; earlier is the generation with another content. The result has the notices.
var changes = map[string]func(b *box, source string) string{
	"another base": func(b *box, _ string) string {
		return fmt.Sprint(b.upgrade("/base2").Merge.Outcomes)
	},
	"resolve": func(b *box, source string) string {
		p := b.upgrade("/base2")
		r, err := b.o.Resolve(b.Context(), []string{source}, Choice{Take: config.ConflictTheirs})
		b.must(err)
		return fmt.Sprint(p.Merge.Outcomes, r.Notices)
	},
	"resolve by an edit": func(b *box, source string) string {
		p := b.upgrade("/base2")
		_, _, _, later := newSources(source)
		r, err := b.o.Resolve(b.Context(), []string{source}, Choice{Content: []byte(later)})
		b.must(err)
		return fmt.Sprint(p.Merge.Outcomes, r.Notices)
	},
	"restore base": func(b *box, source string) string {
		r, err := b.o.Restore(b.Context(), From{Base: true}, []string{source}, "")
		b.must(err)
		return fmt.Sprint(r.Notices)
	},
	"restore a generation": func(b *box, source string) string {
		r, err := b.o.Restore(b.Context(), From{Generation: 1}, []string{source}, "")
		b.must(err)
		return fmt.Sprint(r.Notices)
	},
	"restore what is saved": func(b *box, source string) string {
		_, _, _, later := newSources(source)
		b.editAll(source, later)
		r, err := b.o.Restore(b.Context(), From{}, []string{source}, "")
		b.must(err)
		return fmt.Sprint(r.Notices)
	},
	"rollback": func(b *box, _ string) string {
		r, _, err := b.o.Rollback(b.Context(), 1)
		b.must(err)
		return fmt.Sprint(r.Notices)
	},
	"rollback to another base": func(b *box, _ string) string {
		p := b.upgrade("/base2")
		r, m, err := b.o.Rollback(b.Context(), 1)
		b.must(err)
		return fmt.Sprint(p.Merge.Outcomes, r.Notices, m.Outcomes)
	},
	"rescue restore": func(b *box, source string) string {
		var archive bytes.Buffer
		_, err := b.o.Rescue(b.Context(), &archive, RescueOptions{})
		b.must(err)
		_, _, _, later := newSources(source)
		b.editAll(source, later)
		r, err := b.o.Unrescue(b.Context(), &archive, "")
		b.must(err)
		return fmt.Sprint(r.Notices)
	},
	"by hand in cfg": func(b *box, source string) string {
		_, _, _, later := newSources(source)
		b.must(b.o.Clear(b.Context()))
		b.write("jail/cfg/"+source, later)
		b.o = b.overlay()
		return fmt.Sprint(b.populate().Notices)
	},
	"by hand out of cfg": func(b *box, source string) string {
		b.must(b.o.Clear(b.Context()))
		b.must(os.Remove(b.path("jail/cfg/" + source)))
		b.o = b.overlay()
		return fmt.Sprint(b.populate().Notices)
	},
}

// Whatever changes a file, what is made of it is made anew, or is named with the command that makes it. That
// holds whether the default has it or not, and whether the system has the program or not.
func TestWhatIsMadeOfAChangedFile(t *testing.T) {
	for _, source := range []string{"master.passwd", "login.conf", "services", "mail/aliases"} {
		for name, change := range changes {
			for _, programs := range []bool{true, false} {
				for _, inBase := range []bool{true, false} {
					t.Run(fmt.Sprintf("%s/%s/programs %t, in base %t", source, name, programs, inBase),
						func(t *testing.T) { remadeAfter(t, source, change, programs, inBase) })
				}
			}
		}
	}
}

func remadeAfter(t *testing.T, source string, change func(*box, string) string, programs, inBase bool) {
	one, two, mine, _ := newSources(source)
	b := newBox(t, map[string]string{source: one, "other": "o\n"})
	b.write("base2/"+source, two)
	b.write("base2/other", "o\n")
	if programs {
		b.tools.Derive = makers
		b.o = b.overlay()
	}
	all := merge.WithProducts([]string{source})[1:]
	for _, path := range all {
		if inBase {
			b.write("base/"+path, b.product(path, one))
			b.write("base2/"+path, b.product(path, two))
		}
	}
	b.populate()
	for i, content := range []string{one + "#\n", mine} {
		b.editAll(source, content)
		if b.save(); b.look().Current.Generation != i+1 {
			t.Fatal("nothing was saved")
		}
	}
	said := change(b, source)
	now := b.read("jail/etc/" + source)
	var kept []string
	for _, path := range all {
		is := b.read("jail/etc/" + path)
		if is == b.product(path, now) {
			continue
		}
		kept = append(kept, path)
		i := slices.IndexFunc(merge.Products,
			func(p merge.Product) bool { return slices.Contains(p.Makes, path) })
		p := merge.Products[i]
		named := strings.Contains(said, p.Remedy("/jail/etc")) && strings.Contains(said, path)
		if programs && len(p.Command) > 0 || p.Make != nil || !named {
			t.Errorf("%s is %q for\n%s\nsaid: %s", path, is, now, said)
		}
	}
	for _, c := range b.look().Unsaved { // what could not be made is as it was, saved or not
		if !slices.Contains(kept, c.Path) {
			t.Errorf("unsaved: %s", c.Path)
		}
	}
	b.settled()
}

// A database that only cfg has is that of the source, also if no side of the source is saved: the release's
// new users are visible.
func TestDatabasesOfTheDefault(t *testing.T) {
	for _, p := range merge.Products {
		for _, programs := range []bool{true, false} {
			for _, inBase := range []bool{true, false} {
				one, two, _, _ := newSources(p.Source)
				b := newBox(t, map[string]string{p.Source: one, "other": "o\n"})
				b.write("base2/"+p.Source, two)
				b.write("base2/other", "o\n")
				for _, path := range p.Makes {
					if inBase {
						b.write("base/"+path, "of the first release")
						b.write("base2/"+path, "of the second release")
					}
				}
				if programs {
					b.tools.Derive = makers
					b.o = b.overlay()
				}
				b.populate()
				for _, path := range p.Makes {
					b.edit(path, "made here")
				}
				b.save()
				said := fmt.Sprint(b.upgrade("/base2").Merge.Outcomes)
				for _, path := range p.Makes {
					is := b.read("jail/etc/" + path)
					switch {
					case inBase && is == "of the second release":
					case !inBase && p.Make != nil && is == b.product(path, two):
					case !inBase && is == madeOf(path, two):
					case !inBase && is == "made here" && strings.Contains(said, p.Remedy("/jail/etc")) &&
						(!programs || len(p.Command) == 0):
					default:
						t.Errorf("%s, programs %t, in base %t: %q, %s", path, programs, inBase, is, said)
					}
				}
			}
		}
	}
}

// A product that was not there is readable for all, unless it holds passwords.
func TestModesOfNewProducts(t *testing.T) {
	b := newBox(t, map[string]string{"master.passwd": masterOld})
	b.write("base2/master.passwd", masterOld+dbus)
	b.must(os.Chmod(b.path("base/master.passwd"), 0o600))
	b.must(os.Chmod(b.path("base2/master.passwd"), 0o600))
	b.tools.Derive = makers
	b.o = b.overlay()
	b.populate()
	b.edit("master.passwd", account("HASH"))
	b.save()
	b.upgrade("/base2")
	for path, want := range map[string]os.FileMode{
		"master.passwd": 0o600, "passwd": 0o644, "pwd.db": 0o644, "spwd.db": 0o600,
	} {
		if st, err := os.Stat(b.path("jail/etc/" + path)); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, st, err, want)
		}
	}
}

// Whatever fails while products are made anew at a start, the target starts then or the next time, and a
// passwd that is old was named.
func TestFaultsWhileProductsAreMade(t *testing.T) {
	_, _, _, later := newSources("master.passwd")
	named := 0
	for at := 0; ; at++ {
		b := newBox(t, map[string]string{"master.passwd": masterOld, "passwd": passwdOld})
		b.populate()
		b.edit("master.passwd", account("HASH"))
		b.save()
		b.must(b.o.Clear(t.Context()))
		b.write("jail/cfg/master.passwd", later)
		b.o = b.overlay()
		f := &failing{at: at, err: unix.EIO}
		b.o.Hook = f.hook
		p, err := b.o.Populate(t.Context(), "dir", "")
		if b.o.Hook = nil; f.calls <= at {
			break
		}
		was := b.read("jail/etc/passwd")
		if err != nil {
			b.restart()
			was = b.read("jail/etc/passwd")
		}
		switch {
		case was == b.product("passwd", later):
		case err == nil && strings.Contains(fmt.Sprint(p.Notices), "is not made anew: "):
			named++
		default:
			t.Errorf("call %d: %v, passwd is %q", at, err, was)
		}
		b.holds(map[string]string{"master.passwd": later})
		b.settled()
	}
	if named == 0 {
		t.Error("no fault was met while a product was written")
	}
}

// A passwd in which an earlier version of cfgd put a password is mended at the next start.
func TestExposedPasswordsAreTakenBack(t *testing.T) {
	b := newBox(t, map[string]string{"master.passwd": masterOld, "passwd": passwdOld})
	b.populate()
	b.edit("master.passwd", "#gone:$6$HASH:9:9::0:0:G:/:/x\n"+masterOld)
	b.edit("passwd", "#gone:$6$HASH:9:9::0:0:G:/:/x\n"+passwdOld)
	b.save()
	b.restart()
	b.holds(map[string]string{"passwd": passwdOld})
	if v := b.look(); len(v.Unsaved) > 0 || v.Plain.Has("passwd") {
		t.Errorf("unsaved: %s", paths(v.Unsaved))
	}
	b.settled()
	n := b.look().Current.Generation
	if b.restart(); b.look().Current.Generation != n {
		t.Error("mended again")
	}
}
