package tomldoc

import (
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
)

// The index finds keys wherever TOML allows them.
func TestLines(t *testing.T) {
	text := `# a comment with [brackets] = "x"
top = 1
[a]     # 3
"quoted \" key" = "]"
'lit.eral' = '''
[not] = a table
'''
multi = """
x = 1 \"""
""" # 8
b.c = 1
list = [ 1, # ]
  "two]",
  { in = 1,
    deep.er = [ { x = 1 } ] },
]
[a.d]
e = 1
[[t]]
x = 1
[[t]]
x = 2
  [t.sub]
  y = 3
[[t.more]]
z = 4
[[t.more]]
z = 5
[ g . "h" ]
last=2026-01-02`
	lines := index(text)
	for key, want := range map[string]int{
		"top": 2, "a": 3, `a/quoted " key`: 4, "a/lit.eral": 5, "a/multi": 8, "a/b": 11, "a/b/c": 11,
		"a/list": 12, "a/list/1": 13,
		"a/list/2/in": 14, "a/list/2/deep/er": 15, "a/list/2/deep/er/0/x": 15, "a/d": 17, "a/d/e": 18,
		"t/0": 19, "t/0/x": 20, "t/1": 21,
		"t/1/x": 22, "t/1/sub": 23, "t/1/sub/y": 24, "t/1/more/0/z": 26, "t/1/more/1/z": 28, "g/h": 29,
		"g/h/last":    30,
		"a/d/nothing": 17, "nothing": 0,
	} {
		if got := lines.line(strings.Split(key, "/")); got != want {
			t.Errorf("%s: line %d, want %d", key, got, want)
		}
	}
}

// FuzzLines: the index finds every key that the library finds, and ends for any text.
func FuzzLines(f *testing.F) {
	f.Add("a = [[1,2],{b='''x'''}]\n[[c]]\n[c.d]\ne.f=1\n")
	f.Add("x = {a=1, # b\n c=2}\n\"\\u00e9\"=1\n")
	f.Add("[a]\nb=\"\"\"\"\"\"\nc=''''''''\n")
	f.Fuzz(func(t *testing.T, text string) {
		lines := index(text)
		var doc map[string]any
		meta, err := toml.Decode(text, &doc)
		if err != nil {
			return
		}
		arrays := false
		for _, key := range meta.Keys() {
			arrays = arrays || meta.Type(key...) == "ArrayHash" || meta.Type(key...) == "Array"
		}
		for _, key := range meta.Keys() {
			if _, ok := lines[strings.Join(key, separator)]; !ok && !arrays {
				t.Errorf("no line of %q in %q: %v", key, text, lines)
			}
		}
	})
}
