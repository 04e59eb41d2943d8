package prototype

import (
	"errors"
	"os"
	"strings"
	"testing"

	"cfgd/internal/dirfd"
)

// An original that changes while it is copied, or a copy that is damaged, is found before the original goes:
// nothing was moved, in both directions, and the change is kept.
func TestRelocateCompares(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(y *protoYard, place string) error{
		"content of the same size": func(y *protoYard, place string) error {
			name := y.Path("jail/proto/" + place + "/nginx/nginx.conf")
			st, err := os.Stat(name)
			return errors.Join(err, os.WriteFile(name, []byte("worker 2;\n"), 0o644),
				os.Chtimes(name, st.ModTime(), st.ModTime()))
		},
		"a new file": func(y *protoYard, place string) error {
			return os.WriteFile(y.Path("jail/proto/"+place+"/new"), []byte("n"), 0o644)
		},
		"a file that went": func(y *protoYard, place string) error {
			return os.Remove(y.Path("jail/proto/" + place + "/nginx/nginx.conf"))
		},
		"a mode": func(y *protoYard, place string) error {
			return os.Chmod(y.Path("jail/proto/"+place+"/nginx"), 0o700)
		},
		"the mode of the top": func(y *protoYard, place string) error {
			return os.Chmod(y.Path("jail/proto/"+place), 0o700)
		},
		"a link": func(y *protoYard, place string) error {
			link := y.Path("jail/proto/" + place + "/link")
			return errors.Join(os.Remove(link), os.Symlink("elsewhere", link))
		},
	} {
		for _, back := range []bool{false, true} {
			for _, damaged := range []bool{false, true} { // else the original changes
				y := newProto(t)
				k := y.relocator()
				r, err := k.Plan(proto, "usr/local/etc", "etc/local")
				y.Must(err)
				original, copied := r.Path, "etc/"+beside+"local"
				if back {
					y.Must(k.do(t.Context(), r))
					original, copied = r.To, "usr/local/"+beside+"etc"
				}
				if damaged {
					original = copied
				}
				before, done := y.shape(), false
				k.Hook = func(op dirfd.Op) error {
					if done || !strings.HasPrefix(op.Kind, "sync") || !strings.HasPrefix(op.Path, copied) {
						return nil
					}
					done = true
					y.Must(change(y, original))
					if !damaged {
						before = y.shape()
					}
					return nil
				}
				if back {
					err = k.undo(t.Context(), r)
				} else {
					err = k.do(t.Context(), r)
				}
				if !done || !errors.Is(err, ErrDiffers) {
					t.Errorf("%s, back %v, damaged %v: %v", name, back, damaged, err)
				}
				if got, want := y.shape(), withoutCopies(before); withoutCopies(got) != want ||
					strings.Contains(got, beside) {
					t.Errorf("%s, back %v, damaged %v:\n%s\nwas\n%s", name, back, damaged, got, want)
				}
				all, err := k.All("proto")
				if err != nil || (len(all) > 0) != back || back && !all[0].Finished() {
					t.Errorf("%s, back %v, damaged %v: left %+v, %v", name, back, damaged, all, err)
				}
			}
		}
	}
}

// withoutCopies leaves out the copies of a shape, which go.
func withoutCopies(shape string) string {
	var b strings.Builder
	for line := range strings.Lines(shape) {
		if line != "\n" && !strings.Contains(line, beside) {
			b.WriteString(line)
		}
	}
	return b.String()
}
