package fstab

import (
	"reflect"
	"strings"
	"testing"

	"cfgd/config/conffile"
)

// plain returns entries without the places of their sources, which must be those bytes of the text.
func plain(t *testing.T, text string, entries []Entry) []Entry {
	for i := range entries {
		e := &entries[i]
		if source, _ := Decode(text[e.SourceStart:e.SourceEnd]); source != e.Source {
			t.Errorf("line %d: bytes of the source are %q", e.Line, source)
		}
		e.SourceStart, e.SourceEnd = 0, 0
	}
	return entries
}

func words(bad []*conffile.Error) (all []string) {
	for _, e := range bad {
		all = append(all, e.Error())
	}
	return all
}

func TestParseFstab(t *testing.T) {
	text := "# comment\n" +
		"\t# another\n" +
		"\n" +
		"/dev/ada0s1a\t/\tufs\tro\t1\t1\r\n" +
		"  /dev/ada0s3 /cfg ufs rw,noauto 2 2 # not looked at\n" +
		`/jail/my\040proto/a\134b /x\011y nullfs ro` + "\n" +
		"/a#b /c none rw,late 0\n" +
		"/dev/ada0s4 /data ufs noauto 2 2\n" +
		"/dev/ada0s5 /off ufs noauto,xx,rw 2 2\n" +
		"md /tmp mfs rw,-s10m,xx 2 0\n" +
		"\r\n" +
		"/dev/ada0s6 /crlf ufs ro\r"
	got, bad := Parse("/etc/fstab", []byte(text))
	const none = "neither rw nor ro is among its options"
	want := []Entry{
		{Line: 4, Source: "/dev/ada0s1a", Dir: "/", Type: "ufs", Options: []string{"ro"}, Freq: "1",
			Pass: "1"},
		{Line: 5, Source: "/dev/ada0s3", Dir: "/cfg", Type: "ufs", Options: []string{"rw", "noauto"},
			Freq: "2",
			Pass: "2"},
		{Line: 6, Source: `/jail/my proto/a\b`, Dir: "/x\ty", Type: "nullfs", Options: []string{"ro"}},
		{Line: 7, Source: "/a#b", Dir: "/c", Type: "none", Options: []string{"rw", "late"}, Freq: "0"},
		{Line: 8, Source: "/dev/ada0s4", Dir: "/data", Type: "ufs", Options: []string{"noauto"}, Freq: "2",
			Pass: "2", Unused: none},
		{Line: 9, Source: "/dev/ada0s5", Dir: "/off", Type: "ufs", Options: []string{"noauto", "xx", "rw"},
			Freq: "2", Pass: "2", Unused: "xx among its options turns it off"},
		{Line: 10, Source: "md", Dir: "/tmp", Type: "mfs", Options: []string{"rw", "-s10m", "xx"}, Freq: "2",
			Pass: "0"},
		{Line: 12, Source: "/dev/ada0s6", Dir: "/crlf", Type: "ufs", Options: []string{"ro\r"}, Unused: none},
	}
	if !reflect.DeepEqual(plain(t, text, got), want) || len(bad) > 0 {
		t.Errorf("got  %+v\nwant %+v\n%q", got, want, words(bad))
	}
	if !got[1].Has("noauto") || got[0].Has("noauto") {
		t.Error("noauto")
	}
}

// A line that cannot be read hides no other one.
func TestParseFstabMalformed(t *testing.T) {
	text := "/a /b ufs rw\n/c\n/d /e ufs\n/f\\Q\\\x80 /g ufs rw\n/h /i ufs rw\n"
	got, bad := Parse("/etc/fstab.x", []byte(text))
	const form = "; write: source mountpoint type options [freq [pass]]"
	want := []string{"/etc/fstab.x:2: 1 of the 4 fields that a mount needs" + form,
		"/etc/fstab.x:3: 3 of the 4 fields that a mount needs" + form,
		`/etc/fstab.x:4: a backslash begins nothing that strunvis(3) knows; write a backslash as \134`}
	if !reflect.DeepEqual(words(bad), want) || len(got) != 4 || got[0].Unused+got[3].Unused != "" ||
		!strings.Contains(got[1].Unused, "3 of the 4") || !strings.Contains(got[2].Unused, "strunvis") ||
		got[2].Dir != "/g" {
		t.Errorf("%+v, %q", got, words(bad))
	}
}

// jail(8) cuts a line at its first #, wherever it stands, needs no options, and takes six characters as
// blanks.
func TestParseJail(t *testing.T) {
	text := "# comment\n/p /j nullfs #ro\n/a#b /j/x nullfs rw\n/q\f/j/y\vnullfs\rrw\r\n\r\n  # /x\n" +
		"/a\\043b /j/z nullfs noauto # why\n/s /j/s tmpfs rw\x00,size=1g\n/last /j/l nullfs#"
	got, bad := ParseJail("f", []byte(text))
	want := []Entry{
		{Line: 2, Source: "/p", Dir: "/j", Type: "nullfs"},
		{Line: 4, Source: "/q", Dir: "/j/y", Type: "nullfs", Options: []string{"rw"}},
		{Line: 7, Source: "/a#b", Dir: "/j/z", Type: "nullfs", Options: []string{"noauto"}},
		{Line: 8, Source: "/s", Dir: "/j/s", Type: "tmpfs", Options: []string{"rw"}},
		{Line: 9, Source: "/last", Dir: "/j/l", Type: "nullfs"},
	}
	if !reflect.DeepEqual(plain(t, text, got), want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if w := words(bad); len(w) != 1 ||
		w[0] != `f:3: 1 of the 3 fields that a mount needs; write \043 for #, `+
			`at which jail(8) cuts the line before "#b /j/x nullfs rw"` {
		t.Errorf("%q", w)
	}
	if _, ok, err := ParseMount(conffile.At("jail.conf", 3), "# /a"); ok || err == nil || err.Line != 3 {
		t.Errorf("%v, %v", ok, err)
	}
	if e, ok, err := ParseMount(conffile.At("jail.conf", 3), "/a#b /b t"); !ok || err != nil ||
		e.Source != "/a#b" {
		t.Errorf("%+v, %v, %v", e, ok, err)
	}
}

// The table has what strunvis(3) makes of each escape; "!" is what it refuses.
func TestUnvis(t *testing.T) {
	for in, want := range map[string]string{
		`a\040b`: "a b", `\\`: `\`, `a\`: `a`, `a\0`: `a`, `a\04`: "a\x04", `\04x`: "\x04x", `\377`: "\377",
		`\400x`: "", `a\000b`: "a", `\+12`: `+12`, `\134040`: `\040`, `\1015`: "A5", `\#`: "#",
		`\n\r\b\a\v\t\f\s\E`: "\n\r\b\a\v\t\f \033", `\x41b\x4`: "Ab"[:1] + "b\x04", `\x`: "", `\xg`: "!",
		`\M-a\M^A\^A\^?`: "\xe1\x81\x01\x7f", `\Ma`: "!", `\M`: "", `\M-`: "", `\^`: "", `a\$b`: "ab",
		"\\\x80": "!", "\xff": "\xff",
	} {
		got, ok := Decode(in)
		if !ok {
			got = "!"
		}
		if got != want {
			t.Errorf("unvis(%q) = %q, want %q", in, got, want)
		}
	}
}

// FuzzFstab: whatever is read can be written, and both readers read the same again.
func FuzzFstab(f *testing.F) {
	f.Add("/jail/proto/.zfs/snapshot/1 /jail/vhost1 nullfs ro 0 0\nzpool/vhost1/cfg /jail/vhost1/cfg zfs " +
		"rw 0 0\n")
	f.Add("a\\040b /c nullfs ro,late 0 0 x\n#\n \\ \\0 \\04 x")
	f.Add("\\043a b c d")
	f.Add("a\\043\\v b\\Mx c d\n/a#b /c#d e rw")
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string, []byte) ([]Entry, []*conffile.Error){Parse, ParseJail} {
			entries, bad := parse("f", []byte(text))
			for _, e := range bad {
				if e.Line < 1 || e.Line > strings.Count(text, "\n")+1 || e.Fix == "" {
					t.Errorf("error %v", e)
				}
			}
			for _, e := range entries {
				if source, _ := Decode(text[e.SourceStart:e.SourceEnd]); source != e.Source {
					t.Errorf("source of %+v", e)
				}
				if e.Unused != "" {
					continue
				}
				line := Encode(e.Source) + " " + Encode(e.Dir) + " x rw"
				for _, reader := range []func(string, []byte) ([]Entry, []*conffile.Error){Parse, ParseJail} {
					again, bad := reader("f", []byte(line))
					if len(again) != 1 || len(bad) > 0 || again[0].Source != e.Source ||
						again[0].Dir != e.Dir {
						t.Errorf("%q read again: %+v %v", line, again, bad)
					}
				}
			}
		}
	})
}
