package overlay

import (
	"strings"
	"testing"
)

// shown returns what each part of a text with one conflict shows, by its label.
func shown(text string) map[string]string {
	out := map[string]string{}
	label, part := "", ""
	for l := range strings.Lines(text) {
		sign, name, _ := strings.Cut(strings.TrimSuffix(l, "\n"), " ")
		switch sign {
		case "<<<<<<<":
			label, part = name, ""
		case "|||||||":
			out[label], label, part = part, name, ""
		case "=======":
			out[label], part = part, ""
		case ">>>>>>>":
			out[name] = part
		default:
			part += l
		}
	}
	return out
}

// What a conflict calls the default of a base is a part of that default, and not of a saved file. That holds
// for a conflict that stays open over another base, on the way back to an earlier base, and for a text that
// is made anew after an edit.
func TestConflictsNameTheirVersions(t *testing.T) {
	line := func(at int, content string) string { return text(20, map[int]string{at: content + "\n"}) }
	for name, c := range map[string]struct {
		steps []string // bases to go to, and contents to save
		want  map[string]string
		from  string
	}{
		"open over another base": {
			[]string{line(10, "mine"), "/base2", "/base3"},
			map[string]string{"saved": "mine\n", "default of proto/etc@1": "option_10=\"NO\"\n",
				"default of proto/etc@3": "three\n"},
			"proto/etc@1",
		},
		"back to an earlier base": {
			[]string{line(2, "mine"), "/base2", text(20, map[int]string{2: "mine\n", 10: "later\n"}), ""},
			map[string]string{"saved": "later\n", "generation 2, on proto/etc@2": "two\n",
				"generation 1, on proto/etc@1": "option_10=\"NO\"\n"},
			"proto/etc@2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, map[string]string{"rc.conf": text(20, nil), "other": "o\n"})
			for base, content := range map[string]string{"base2": "two", "base3": "three"} {
				b.write(base+"/rc.conf", line(10, content))
				b.write(base+"/other", "o\n")
			}
			b.populate()
			for _, step := range c.steps {
				if step == "" || strings.HasPrefix(step, "/") {
					b.upgrade(step)
					continue
				}
				b.edit("rc.conf", step)
				b.save()
			}
			if cs := b.look().Conflicts(); len(cs) != 1 || cs[0].From != c.from {
				t.Fatalf("%+v, want one from %s", cs, c.from)
			}
			for range 2 {
				text, err := b.o.ConflictText(t.Context(), "rc.conf")
				b.must(err)
				got := shown(string(text))
				for label, want := range c.want {
					if got[label] != want || len(got) != len(c.want) {
						t.Errorf("%q is %q, want %q:\n%s", label, got[label], want, text)
					}
				}
				b.edit("rc.conf", "# edited since\n"+b.read("jail/etc/rc.conf"))
			}
		})
	}
}
