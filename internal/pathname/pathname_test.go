package pathname

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var paths = rapid.Custom(func(t *rapid.T) string {
	raw := rapid.SliceOf(rapid.Byte())
	text := rapid.SliceOf(rapid.SampledFrom([]byte("ab/.\"\\\n\t 0ü\xfc")))
	return string(rapid.OneOf(raw, text).Draw(t, "bytes"))
})

func TestQuote(t *testing.T) {
	for name, want := range map[string]string{
		"rc.conf":        "rc.conf",
		"with blank":     "with blank",
		"grün":           "grün",
		"gr\xfcn":        `"gr\374n"`,
		"grü\xfcn":       `"grü\374n"`,
		"a\nb":           `"a\nb"`,
		"a\tb":           `"a\tb"`,
		`a"b`:            `"a\"b"`,
		`a\b`:            `"a\\b"`,
		"a\x00b\x7f\x1b": `"a\000b\177\033"`,
		"a\u202eb":       `"a\342\200\256b"`, // turns the rest of a line around
		"a\ufffdb":       "a\ufffdb",
		"":               "",
	} {
		if got := Quote(name); got != want {
			t.Errorf("Quote(%q) = %s, want %s", name, got, want)
		}
	}
}

func TestUnquoteErrors(t *testing.T) {
	for _, s := range []string{`"`, `"a`, `"a\"`, `"a"b"`, `"\8"`, `"\12"`, `"\400"`, `"\x41"`, `"\0019\"`} {
		if got, err := Unquote(s); err == nil {
			t.Errorf("Unquote(%s) = %q, want an error", s, got)
		}
	}
}

func TestUnquoteUndoesQuote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := paths.Draw(t, "path")
		q := Quote(p)
		if strings.ContainsAny(q, "\n\x00\x1b") {
			t.Fatalf("Quote(%q) = %q holds control characters", p, q)
		}
		if got, err := Unquote(q); err != nil || got != p {
			t.Fatalf("Unquote(%s) = %q, %v, want %q", q, got, err, p)
		}
	})
}

func FuzzUnquote(f *testing.F) {
	for _, s := range []string{"rc.conf", `"gr\374n"`, `"a\nb"`, `"\0"`, `"`, "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Unquote(s)
		if err != nil {
			return
		}
		if again, err := Unquote(Quote(p)); err != nil || again != p {
			t.Fatalf("%q reads as %q, which reads back as %q, %v", s, p, again, err)
		}
	})
}

func TestJSONKeepsEveryName(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := paths.Draw(t, "path")
		line, err := json.Marshal(FromPath(p))
		if err != nil {
			t.Fatal(err)
		}
		var j JSON
		if err := json.Unmarshal(line, &j); err != nil {
			t.Fatal(err)
		}
		if got, err := j.Name(); err != nil || got != p {
			t.Fatalf("%q comes back from %s as %q, %v", p, line, got, err)
		}
	})
}

func TestJSONForm(t *testing.T) {
	for p, want := range map[string]string{
		"grün":    `{"path":"grün"}`,
		"gr\xfcn": "{\"path\":\"gr\ufffdn\",\"pathBytes\":\"Z3L8bg==\"}",
	} {
		if got, _ := json.Marshal(FromPath(p)); string(got) != want {
			t.Errorf("FromPath(%q) is %s, want %s", p, got, want)
		}
	}
	forged := JSON{Path: "motd", PathBytes: []byte("master.passwd")}
	if got, err := forged.Name(); err == nil {
		t.Errorf("%+v names %q, want an error", forged, got)
	}
}

func TestClean(t *testing.T) {
	for arg, want := range map[string]string{
		"rc.conf":         "rc.conf",
		"./rc.conf":       "rc.conf",
		"local//nginx///": "local/nginx",
		"/etc/rc.conf":    "rc.conf",
		"/etc//rc.conf":   "rc.conf",
		"//etc/rc.conf":   "rc.conf",
		"etc/rc.conf":     "etc/rc.conf",
		`"gr\374n"`:       "gr\xfcn",
		`"/etc/a\nb"`:     "a\nb",
		"..conf":          "..conf",
		"":                "",
		".":               "",
		"./":              "",
		"/etc":            "",
		"/etc/":           "",
		"/etc/.":          "",
	} {
		if got, err := Clean(arg); err != nil || got != want {
			t.Errorf("Clean(%q) = %q, %v, want %q", arg, got, err, want)
		}
	}
}

func TestCleanRefuses(t *testing.T) {
	for arg, why := range map[string]string{
		"..":                       "..",
		"a/../b":                   "..",
		"/etc/../root":             "..",
		"/":                        "not below /etc",
		"/usr/local/etc":           "not below /etc",
		"/etcetera":                "not below /etc",
		`"a\000b"`:                 "NUL",
		"a\x00b":                   "NUL",
		`"a`:                       "closing quote",
		".cfgd":                    "store's own",
		"/etc/.cfgd/manifest":      "store's own",
		strings.Repeat("a", 256):   "255 bytes",
		strings.Repeat("a/", 2049): "4096 bytes",
	} {
		if got, err := Clean(arg); err == nil || got != "" || !strings.Contains(err.Error(), why) {
			t.Errorf("Clean(%.20q) = %q, %v, want an error about %q", arg, got, err, why)
		}
	}
}

func TestCleanGivesValidPaths(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := Clean(paths.Draw(t, "argument"))
		if err != nil || p == "" {
			return
		}
		if err := Valid(p); err != nil {
			t.Fatal(err)
		}
		if again, err := Clean(Quote(p)); err != nil || again != p {
			t.Fatalf("%q is read again as %q, %v", p, again, err)
		}
	})
}

func TestValid(t *testing.T) {
	long := strings.Repeat("a", 255)
	for _, p := range []string{"a", "a/b", "...", ".cfgdx", "a/.cfgd", "a\nb", "\xff", " ", long} {
		if err := Valid(p); err != nil {
			t.Error(err)
		}
	}
	for _, p := range []string{"", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/..", "a/../b",
		"a\x00", ".cfgd", ".cfgd/tmp",
		long + "a", strings.Repeat("a/", 2048) + "a"} {
		if Valid(p) == nil {
			t.Errorf("Valid(%.20q) is nil, want an error", p)
		}
	}
}

func TestCompare(t *testing.T) {
	sorted := []string{"", "a", "a/", "a/b", "a/b/c", "a/b.c", "a\x01", "a b", "a-b", "a.conf", "a0", "b"}
	for i, a := range sorted {
		for j, b := range sorted {
			if got := Compare(a, b); sign(got) != sign(i-j) {
				t.Errorf("Compare(%q, %q) = %d, want the sign of %d", a, b, got, i-j)
			}
		}
	}
}

// TestCompareIsByComponents holds Compare against the definition that it abbreviates.
func TestCompareIsByComponents(t *testing.T) {
	names := rapid.StringMatching(`[ab.\x01~-]{1,3}(/[ab.\x01~-]{1,3}){0,3}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := names.Draw(t, "a"), names.Draw(t, "b")
		want := slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
		if got := Compare(a, b); sign(got) != want {
			t.Fatalf("Compare(%q, %q) = %d, want %d", a, b, got, want)
		}
	})
}

func sign(n int) int { return max(-1, min(1, n)) }

func TestFew(t *testing.T) {
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{nil, ""}, {[]string{"a"}, "a"}, {[]string{"a", "b\n"}, `a, "b\n"`},
		{[]string{"a", "b", "c"}, "a, b, and 1 more"}, {[]string{"a", "b", "c", "d"}, "a, b, and 2 more"},
	} {
		if got := QuoteFew(c.paths, 2); got != c.want {
			t.Errorf("%q: %s, want %s", c.paths, got, c.want)
		}
	}
}
