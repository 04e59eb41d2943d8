package conffile

import (
	"strings"
	"testing"
)

func TestApply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		edit Edit
		want string // "" is an error
	}{
		{"a rw 1\n", Edit{Line: 1, Old: "rw", New: "rw,noauto"}, "a rw,noauto 1\n"},
		{
			"/dev/rw /rw rw 1\n", Edit{Line: 1, Old: "rw", New: "rw,noauto"},
			"/dev/rw /rw rw,noauto 1\n",
		},
		{"a rw rw\n", Edit{Line: 1, Old: "rw", New: "x"}, ""},
		{"x=1\nx=2", Edit{Line: 2, Old: "x", New: "y"}, "x=1\ny=2\n"},
		{"xx=1\n", Edit{Line: 1, Old: "x", New: "y"}, ""},
		{"a {\n}\n", Edit{Line: 1, New: "b;"}, "a {\nb;\n}\n"},
		{"a\n{\n}\n", Edit{Line: 1, New: "b;"}, "a\n{\nb;\n}\n"},
		{"a { }\n", Edit{Line: 1, New: "b;"}, ""},
		{"", Edit{New: "b"}, "b\n"},
		{"a", Edit{New: "b"}, "a\nb\n"},
	} {
		got, d, err := c.edit.Apply([]byte(c.text))
		if (err != nil) != (c.want == "") || err == nil && string(got) != c.want {
			t.Errorf("%q %+v: %q, %v", c.text, c.edit, got, err)
		}
		if err != nil {
			continue
		}
		if back, ok := d.Undo(got); !ok ||
			strings.TrimSuffix(string(back), "\n") != strings.TrimSuffix(c.text, "\n") {
			t.Errorf("%q taken out: %q", c.text, back)
		}
	}
}
