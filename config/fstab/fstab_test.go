package fstab

import (
	"reflect"
	"strings"
	"testing"

	"cfgd/config/conffile"
)

func TestParseFstab(t *testing.T) {
	text := "# comment\n" +
		"\t# another\n" +
		"\n" +
		"/dev/ada0s1a\t/\tufs\tro\t1\t1\r\n" +
		"  /dev/ada0s3 /cfg ufs rw,noauto 2 2 # not looked at\n" +
		`/jail/my\040proto/a\134b /x\011y nullfs ro` + "\n" +
		"/a#b /c none rw,late 0"
	got, err := Parse("/etc/fstab", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{
		{
			Line:    4,
			Source:  "/dev/ada0s1a",
			Dir:     "/",
			Type:    "ufs",
			Options: []string{"ro"},
			Freq:    "1",
			Pass:    "1",
		},
		{
			Line:    5,
			Source:  "/dev/ada0s3",
			Dir:     "/cfg",
			Type:    "ufs",
			Options: []string{"rw", "noauto"},
			Freq:    "2",
			Pass:    "2",
		},
		{Line: 6, Source: `/jail/my proto/a\b`, Dir: "/x\ty", Type: "nullfs", Options: []string{"ro"}},
		{Line: 7, Source: "/a#b", Dir: "/c", Type: "none", Options: []string{"rw", "late"}, Freq: "0"},
	}
	for i := range got {
		if raw := text[got[i].SourceStart:got[i].SourceEnd]; decode(raw) != got[i].Source {
			t.Errorf("line %d: bytes of the source are %q", got[i].Line, raw)
		}
		got[i].SourceStart, got[i].SourceEnd = 0, 0
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if !got[1].Has("noauto") || got[0].Has("noauto") {
		t.Error("noauto")
	}
}

func TestParseFstabMalformed(t *testing.T) {
	for text, want := range map[string]string{
		"/a /b ufs rw\n/c\n": "/etc/fstab.x:2: 1 of the 4 fields that a mount needs; write: source " +
			"mountpoint type options [freq [pass]]",
		"\n\n/a /b ufs": "/etc/fstab.x:3: 3 of the 4 fields that a mount needs; write: source mountpoint " +
			"type options [freq [pass]]",
	} {
		_, err := Parse("/etc/fstab.x", []byte(text))
		if err == nil || err.Error() != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestUnvis(t *testing.T) {
	for in, want := range map[string]string{
		`a\040b`: "a b", `\\`: `\`, `a\`: `a\`, `a\0`: `a\0`, `a\04`: `a\04`, `a\x`: `a\x`, `\377`: "\377",
		`\400`: `\400`, `\+12`: `\+12`, `\134040`: `\040`,
	} {
		if got := decode(in); got != want {
			t.Errorf("unvis(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzFstab: whatever is read can be written, and reads the same.
func FuzzFstab(f *testing.F) {
	f.Add("/jail/proto/.zfs/snapshot/1 /jail/vhost1 nullfs ro 0 0\nzpool/vhost1/cfg /jail/vhost1/cfg zfs " +
		"rw 0 0\n")
	f.Add("a\\040b /c nullfs ro,late 0 0 x\n#\n \\ \\0 \\04 x")
	f.Add("\\043a b c d")
	f.Fuzz(func(t *testing.T, text string) {
		entries, err := Parse("f", []byte(text))
		if err != nil {
			if e, ok := err.(*conffile.Error); !ok || e.Line < 1 || e.Line > strings.Count(text, "\n")+1 {
				t.Errorf("error %v", err)
			}
			return
		}
		for _, e := range entries {
			if decode(text[e.SourceStart:e.SourceEnd]) != e.Source {
				t.Errorf("source of %+v", e)
			}
			line := Encode(e.Source) + " " + Encode(e.Dir) + " x rw"
			again, ok, err := parseLine(conffile.At("f", 1), line)
			if err != nil || !ok || again.Source != e.Source || again.Dir != e.Dir {
				t.Errorf("%q read again: %+v %v", line, again, err)
			}
		}
	})
}
