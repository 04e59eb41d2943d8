package merge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// The accounts of a release, and a password that an administrator set.
const (
	masterOld = `# $FreeBSD: head/etc/master.passwd 256366 2013-10-12 rpaulo $
#
root::0:0::0:0:Charlie &:/root:/bin/csh
toor:*:0:0::0:0:Bourne-again Superuser:/root:
daemon:*:1:1::0:0:Owner of many system processes:/root:/usr/sbin/nologin
games:*:7:13::0:0:Games pseudo-user:/:/usr/sbin/nologin
www:*:80:80::0:0:World Wide Web Owner:/nonexistent:/usr/sbin/nologin
nobody:*:65534:65534::0:0:Unprivileged user:/nonexistent:/usr/sbin/nologin
`
	groupOld = `# $FreeBSD: head/etc/group 294896 2016-01-27 gjb $
#
wheel:*:0:root
operator:*:5:root,toor
games:*:13:
www:*:80:
nobody:*:65534:
`
	hash = "$6$salt$0123456789abcdefghijklmnopqrstuvwxyz"
)

// with changes lines of a text. "NAME:…" replaces the entry of that name or is added at the end; "-NAME"
// drops it; "NAME>LINE" adds a line after it.
func with(text string, changes ...string) string {
	all := strings.SplitAfter(text, "\n")
	all = all[:len(all)-1]
	for _, c := range changes {
		name, line, behind := strings.Cut(c, ">")
		name, _, _ = strings.Cut(strings.TrimPrefix(name, "-"), ":")
		at := slices.IndexFunc(all, func(l string) bool { return strings.HasPrefix(l, name+":") })
		switch {
		case at >= 0 && c == "-"+name:
			all = slices.Delete(all, at, at+1)
		case at >= 0 && behind:
			all = slices.Insert(all, at+1, line+"\n")
		case at >= 0:
			all[at] = c + "\n"
		default:
			all = append(all, c+"\n")
		}
	}
	return strings.Join(all, "")
}

// example is a merge of one file without conflicts.
type example struct {
	name              string
	old, mine, theirs string
	want              string
	notes             []string
}

var labels = Names{"saved", "default of 13.2", "default of 14.1"}

func runExamples(t *testing.T, path string, examples []example) {
	t.Helper()
	for _, c := range examples {
		m, ok, err := Accounts(path, []byte(c.old), []byte(c.mine), []byte(c.theirs), labels)
		if !ok || err != nil || m.Conflicts > 0 || string(m.Content) != c.want {
			t.Errorf("%s: %v, %v, %d conflicts\n%s\nwant\n%s", c.name, ok, err, m.Conflicts, m.Content,
				c.want)
		}
		if !slices.Equal(m.Notes, c.notes) {
			t.Errorf("%s: notes %q, want %q", c.name, m.Notes, c.notes)
		}
	}
}

func TestAccountsMerged(t *testing.T) {
	t.Parallel()
	const (
		root    = "root:" + hash + ":0:0::0:0:Charlie &:/root:/bin/csh"
		deploy  = "deploy:" + hash + ":1001:1001::0:0:Deploys:/home/deploy:/bin/sh"
		dbus    = "dbus:*:556:556::0:0:D-BUS Daemon User:/nonexistent:/usr/sbin/nologin"
		ntpd    = "ntpd:*:123:123::0:0:NTP Daemon:/var/db/ntp:/usr/sbin/nologin"
		www     = "www:*:80:80::0:0:World Wide Web Owner"
		nologin = ":/usr/sbin/nologin"
		nis     = "+:::::::::"
	)
	newTag := strings.Replace(masterOld, "256366 2013-10-12", "300000 2016-05-16", 1)
	old := masterOld
	runExamples(t, "master.passwd", []example{
		{
			"a password here, a new user there",
			old,
			with(old, root),
			with(old, dbus),
			with(old, root, dbus),
			nil,
		},
		{
			"a password here, another shell there",
			old,
			with(old, root),
			with(old, "root::0:0::0:0:Charlie &:/root:/bin/sh"),
			with(old, "root:"+hash+":0:0::0:0:Charlie &:/root:/bin/sh"),
			nil,
		},
		{
			"a shell here, a home there",
			old,
			with(old, www+":/nonexistent:/bin/sh"),
			with(old, www+":/var/empty"+nologin),
			with(old, www+":/var/empty:/bin/sh"),
			nil,
		},
		{
			"the same change, and one more",
			old,
			with(old, dbus, deploy),
			with(old, dbus),
			with(old, dbus, deploy),
			nil,
		},
		{
			"the order is mine's",
			old,
			with(old, "-games", "games:*:7:13::0:0:Games pseudo-user:/:/usr/sbin/nologin"),
			with(old, dbus),
			with(old, "-games", dbus, "games:*:7:13::0:0:Games pseudo-user:/:/usr/sbin/nologin"),
			nil,
		},
		{
			"new users stand behind those they follow",
			old,
			with(old, "-toor", root),
			with(old, "toor>"+ntpd, "ntpd>"+dbus),
			with(old, "-toor", root, "root>"+ntpd, "ntpd>"+dbus),
			nil,
		},
		{
			"new users stand above those of here that end the file only if they do there",
			old,
			with(old, deploy),
			with(old, dbus),
			with(old, dbus, deploy),
			nil,
		},
		{"a tag alone", old, with(old, root), newTag, with(newTag, root), nil},
		{"a tag and a user", old, with(old, root), with(newTag, dbus), with(newTag, root, dbus), nil},
		{"deleted here", old, with(old, "-games"), with(old, dbus), with(old, "-games", dbus), nil},
		{
			"deleted here, changed there",
			old,
			with(old, "-games"),
			with(old, "games:*:7:14::0:0:Games:/"+nologin),
			with(old, "-games"),
			[]string{"user games: deleted here and changed in the new default: it stays deleted"},
		},
		{"deleted there", old, with(old, root), with(old, "-games"), with(old, root, "-games"), nil},
		{
			"deleted there, changed here",
			old,
			with(old, "games:"+hash+":7:13::0:0:Games pseudo-user:/:/bin/sh"),
			with(old, "-games"),
			with(old, "games:"+hash+":7:13::0:0:Games pseudo-user:/:/bin/sh"),
			[]string{"user games: gone from the new default, and kept: it was changed here"},
		},
		{
			"root deleted there",
			old,
			with(old, deploy),
			with(old, "-root"),
			with(old, deploy),
			[]string{"user root: gone from the new default, and kept"},
		},
		{
			"a number that theirs shares too",
			old,
			with(old, root),
			with(old, "toor>admin:*:0:0::0:0:Third:/root:"),
			with(old, root, "toor>admin:*:0:0::0:0:Third:/root:"),
			nil,
		},
		{
			"a number that theirs gave to another",
			old,
			with(old, root),
			with(old, "-games", "play:*:7:13::0:0:Play:/"+nologin),
			with(old, root, "-games", "play:*:7:13::0:0:Play:/"+nologin),
			nil,
		},
		{"NIS ends the file here", old, with(old, nis), with(old, dbus), with(old, dbus, nis), nil},
		{
			"NIS ends the file there",
			old,
			with(old, deploy),
			with(old, "-evil:::::::::", nis),
			with(old, deploy, "-evil:::::::::", nis),
			nil,
		},
		{
			"NIS ends both",
			with(old, nis),
			with(old, deploy, nis),
			with(old, dbus, "-evil:::::::::", nis),
			with(old, dbus, deploy, "-evil:::::::::", nis),
			nil,
		},
		{
			"NIS and a comment end the file",
			old + "# end\n",
			with(old, root, nis) + "# end\n",
			old + "# end\n" + dbus + "\n",
			with(old, root, dbus, nis) + "# end\n",
			nil,
		},
		{
			"a comment that mine has elsewhere",
			old + "# local\n",
			"# local\n" + with(old, root),
			old + "# local\n" + dbus + "\n",
			"# local\n" + with(old, root, dbus),
			nil,
		},
		{
			"what is no entry stays",
			old,
			with(old, "broken line", "half:*:1"),
			with(old, dbus),
			with(old, dbus, "broken line", "half:*:1"),
			nil,
		},
		{
			"comments come, go and stay",
			old + "# daemons\n# none\n",
			with(old, root) + "# here\n# daemons\n# none\n",
			old + "# daemons\n# of ports\n" + dbus + "\n",
			with(old, root) + "# here\n# daemons\n# of ports\n" + dbus + "\n",
			nil,
		},
		{
			"equal comments",
			"#\n#\n# 2\n" + root + "\n",
			"#\n#\n# 2\n#\n" + root + "\n",
			"#\n#\n# 2\n" + root + "\n" + dbus + "\n",
			"#\n#\n# 2\n#\n" + root + "\n" + dbus + "\n",
			nil,
		},
		{
			"a name twice",
			old,
			with(old, "daemon>"+www+":/a:/x"),
			with(old, dbus),
			with(old, "daemon>"+www+":/a:/x", dbus),
			nil,
		},
		{
			"a name twice there",
			old,
			with(old, deploy),
			with(old, "games>"+www+":/a:/x"),
			with(old, deploy, "games>"+www+":/a:/x"),
			nil,
		},
		{
			"a name twice, once there",
			with(old, "daemon>"+www+":/a:/x"),
			with(old, root, "daemon>"+www+":/a:/x"),
			old,
			with(old, root, "-www", "daemon>"+www+":/nonexistent:/usr/sbin/nologin"),
			nil,
		},
		{
			"no end of the last line",
			old,
			strings.TrimSuffix(with(old, root), "\n"),
			with(old, dbus),
			strings.TrimSuffix(with(old, root, dbus), "\n"),
			nil,
		},
		{
			"an end that theirs gave it",
			strings.TrimSuffix(old, "\n"),
			strings.TrimSuffix(with(old, root), "\n"),
			with(old, dbus),
			with(old, root, dbus),
			nil,
		},
		{"CRLF here", old, crlf(with(old, root)), with(old, dbus), crlf(with(old, root, dbus)), nil},
		{"CRLF in one line", old, with(old, root+"\r"), with(old, dbus), with(old, root+"\r", dbus), nil},
		{
			"bytes outside UTF-8",
			old,
			with(old, "m:*:1:1::0:0:M\xfcller:/:/x"),
			with(old, "l:*:2:2::0:0:L\xe9a:/:/x"),
			with(old, "l:*:2:2::0:0:L\xe9a:/:/x", "m:*:1:1::0:0:M\xfcller:/:/x"),
			nil,
		},
		{"nothing that is", "#\n" + dbus + "\n", "#\n", dbus + "\n", "", nil},
		{
			"nothing that was",
			"",
			deploy + "\n",
			deploy + "\n" + dbus + "\n",
			deploy + "\n" + dbus + "\n",
			nil,
		},
	})
	runExamples(t, "passwd", []example{
		{"passwd", "a:*:1:1:A:/:/x\n", "a:*:1:1:B:/:/x\n", "a:*:1:1:A:/:/y\n", "a:*:1:1:B:/:/y\n", nil},
	})
}

func crlf(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

func TestAccountsGroups(t *testing.T) {
	t.Parallel()
	old := groupOld
	runExamples(t, "group", []example{
		{
			"members of both",
			old,
			with(old, "wheel:*:0:root,ann"),
			with(old, "wheel:*:0:root,bob"),
			with(old, "wheel:*:0:root,ann,bob"),
			nil,
		},
		{
			"the same member",
			old,
			with(old, "wheel:*:0:ann,root"),
			with(old, "wheel:*:0:root,ann"),
			with(old, "wheel:*:0:ann,root"),
			nil,
		},
		{
			"one leaves here, one comes there",
			old,
			with(old, "operator:*:5:root"),
			with(old, "operator:*:5:root,toor,bob"),
			with(old, "operator:*:5:root,bob"),
			nil,
		},
		{
			"one leaves there, one comes here",
			old,
			with(old, "operator:*:5:root,toor,ann"),
			with(old, "operator:*:5:root"),
			with(old, "operator:*:5:root,ann"),
			nil,
		},
		{
			"both leave",
			old,
			with(old, "operator:*:5:toor"),
			with(old, "operator:*:5:root"),
			with(old, "operator:*:5:"),
			nil,
		},
		{
			"as mine wrote it",
			old,
			with(old, "operator:*:5:toor,root,"),
			with(old, "operator:*:5:root,toor,"),
			with(old, "operator:*:5:toor,root,"),
			nil,
		},
		{
			"a member here, a gid there",
			old,
			with(old, "games:*:13:ann"),
			with(old, "games:*:14:"),
			with(old, "games:*:14:ann"),
			nil,
		},
		{
			"a group's password",
			old,
			with(old, "games:"+hash+":13:"),
			with(old, "games:*:13:bob"),
			with(old, "games:"+hash+":13:bob"),
			nil,
		},
		{
			"groups come and go",
			old,
			with(old, "www:*:80:ann", "staff:*:1001:ann"),
			with(old, "-games", "dbus:*:556:"),
			with(old, "-games", "www:*:80:ann", "dbus:*:556:", "staff:*:1001:ann"),
			nil,
		},
		{
			"wheel deleted there",
			old,
			with(old, "www:*:80:ann"),
			with(old, "-wheel"),
			with(old, "www:*:80:ann"),
			[]string{"group wheel: gone from the new default, and kept"},
		},
	})
}

func TestAccountsConflicts(t *testing.T) {
	t.Parallel()
	const deploy = "deploy:" + hash + ":556:556::0:0:Deploys:/home/deploy:/bin/sh"
	other := strings.ReplaceAll(hash, "salt", "pepper")
	for _, c := range []struct {
		name              string
		path              string
		old, mine, theirs string
		want, notes       []string
	}{
		{"both set a password", "master.passwd", "root::0:0::0:0:Charlie &:/root:/bin/csh\n", "root:" + hash +
			":0:0::0:0:Charlie &:/root:/bin/tcsh\n", "root:" + other +
			":0:0::0:0:Charlie Root:/root:/bin/csh\n",
			[]string{"<<<<<<< saved, merged", "root:" + hash + ":0:0::0:0:Charlie Root:/root:/bin/tcsh",
				"||||||| default of 13.2", "root::0:0::0:0:Charlie &:/root:/bin/csh", "=======",
				"root:" + other + ":0:0::0:0:Charlie Root:/root:/bin/tcsh",
				">>>>>>> default of 14.1, merged"},
			[]string{"user root: password changed on both sides"}},
		{"both change shell and home", "passwd", "a:*:1:1:A:/:/bin/sh\nb:*:2:2:B:/:/x\n",
			"a:*:1:1:A:/a:/bin/csh\nb:*:2:2:B:/:/x\n", "a:*:1:1:A:/home/a:\nb:*:2:2:B:/:/y\n",
			[]string{"<<<<<<< saved", "a:*:1:1:A:/a:/bin/csh", "||||||| default of 13.2",
				"a:*:1:1:A:/:/bin/sh", "=======", "a:*:1:1:A:/home/a:", ">>>>>>> default of 14.1",
				"b:*:2:2:B:/:/y"},
			[]string{`user a: home "/a" here, "/home/a" in the new default; ` +
				`shell "/bin/csh" here, "" in the new default`}},
		{"both add it, and differently", "group", "wheel:*:0:root\n", "wheel:*:0:root\nweb:*:1001:ann\n",
			"wheel:*:0:root\nweb:*:1001:bob\n",
			[]string{"wheel:*:0:root", "<<<<<<< saved", "web:*:1001:ann", "||||||| default of 13.2",
				"=======", "web:*:1001:bob", ">>>>>>> default of 14.1"},
			[]string{`group web: members "ann" here, "bob" in the new default`}},
		{"a new user's number is taken", "master.passwd", "a:*:1:1::0:0:A:/:/x\n", "a:*:1:1::0:0:A:/:/x\n" +
			deploy + "\n", "a:*:1:1::0:0:A:/:/x\ndbus:*:0556:556::0:0:D:/:/x\n",
			[]string{"a:*:1:1::0:0:A:/:/x", "<<<<<<< saved", "||||||| default of 13.2", "=======",
				"dbus:*:0556:556::0:0:D:/:/x", ">>>>>>> default of 14.1", deploy},
			[]string{"user dbus: uid 556 is taken by deploy: not added"}},
		{"a changed number is taken", "passwd", "d:*:9:9:D:/:/x\n", "d:*:9:9:D:/:/x\na:*:556:1:A:/:/x\n",
			"d:*:556:9:DD:/:/x\n",
			[]string{"<<<<<<< saved, merged", "d:*:9:9:DD:/:/x", "||||||| default of 13.2", "d:*:9:9:D:/:/x",
				"=======", "d:*:556:9:DD:/:/x", ">>>>>>> default of 14.1", "a:*:556:1:A:/:/x"},
			[]string{"user d: uid 556 is taken by a: not changed"}},
		{"and so is the one that it would leave", "group", "d:*:9:\n", "d:*:9:\na:*:556:\n",
			"d:*:556:\ne:*:9:\n",
			[]string{"<<<<<<< saved", "d:*:9:", "||||||| default of 13.2", "d:*:9:", "=======", "d:*:556:",
				">>>>>>> default of 14.1",
				"<<<<<<< saved", "||||||| default of 13.2", "=======", "e:*:9:", ">>>>>>> default of 14.1",
				"a:*:556:"},
			[]string{"group d: gid 556 is taken by a: not changed",
				"group e: gid 9 is taken by d: not added"}},
		{"the one who has it was deleted there", "group", "a:*:9:\nb:*:1:\n", "a:*:9:ann\nb:*:1:\n",
			"c:*:9:\nb:*:1:\n",
			[]string{"<<<<<<< saved", "||||||| default of 13.2", "=======", "c:*:9:",
				">>>>>>> default of 14.1", "a:*:9:ann", "b:*:1:"},
			[]string{"group a: gone from the new default, and kept: it was changed here",
				"group c: gid 9 is taken by a: not added"}},
		{"a name twice", "group", "a:*:1:\n", "a:*:1:\nb:*:2:\na:*:3:\n", "a:*:4:\n",
			[]string{"<<<<<<< saved", "a:*:1:", "a:*:3:", "||||||| default of 13.2", "a:*:1:", "=======",
				"a:*:4:", ">>>>>>> default of 14.1", "b:*:2:"},
			[]string{"group a: a name that is there more than once, changed on both sides"}},
		{"a name twice, and a number that is taken", "group", "a:*:1:\na:*:2:\n", "a:*:1:\na:*:2:\nb:*:9:\n",
			"a:*:1:\na:*:9:\n",
			[]string{"<<<<<<< saved", "a:*:1:", "a:*:2:", "||||||| default of 13.2", "a:*:1:", "a:*:2:",
				"=======", "a:*:1:", "a:*:9:", ">>>>>>> default of 14.1", "b:*:9:"},
			[]string{"group a: gid 9 is taken by b: not changed"}},
		{"a name for a terminal", "group", "a\x1b[2J:*:1:\n", "a\x1b[2J:*:2:\n", "a\x1b[2J:*:3:\n",
			[]string{"<<<<<<< saved", "a\x1b[2J:*:2:", "||||||| default of 13.2", "a\x1b[2J:*:1:", "=======",
				"a\x1b[2J:*:3:", ">>>>>>> default of 14.1"},
			[]string{`group "a\033[2J": gid "2" here, "3" in the new default`}},
	} {
		m, _, err := Accounts(c.path, []byte(c.old), []byte(c.mine), []byte(c.theirs), labels)
		want := strings.Join(c.want, "\n") + "\n"
		if err != nil || m.Conflicts != strings.Count(want, "<<<<<<<") || string(m.Content) != want {
			t.Errorf("%s: %v, %d conflicts\n%s\nwant\n%s", c.name, err, m.Conflicts, m.Content, want)
		}
		if !slices.Equal(m.Notes, c.notes) {
			t.Errorf("%s: notes %q, want %q", c.name, m.Notes, c.notes)
		}
	}
}

// What a conflict shows as the old default are lines of the old default, and nothing of mine.
func TestConflictsShowTheOldDefault(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		path, old, mine, theirs := drawAccounts(t, false)
		text := string(mustMerge(t, path, old, mine, theirs).Content)
		shown := false
		for l := range strings.Lines(text) {
			switch {
			case strings.HasPrefix(l, "|||||||"):
				shown = true
			case strings.HasPrefix(l, "======="):
				shown = false
			case shown && !strings.Contains("\n"+textOf(old), "\n"+l):
				t.Fatalf("%q is no line of the old default:\n%s", l, text)
			}
		}
	})
}

func TestAccountsRefused(t *testing.T) {
	t.Parallel()
	if _, ok, _ := Accounts("rc.conf", nil, nil, nil, Names{}); ok {
		t.Error("rc.conf is no account file")
	}
	for _, c := range []struct {
		text string
		want error
	}{
		{"a\x00", ErrBinary},
		{strings.Repeat("#\n", 9000) + "a\x00\n", ErrBinary},
		{strings.Repeat("\n", maxAccountLines+1), ErrTooLarge},
		{strings.Repeat("x", maxAccounts+1), ErrTooLarge},
	} {
		if m, ok, err := Accounts("group", []byte("a\n"), []byte("b\n"), []byte(c.text), Names{}); !ok ||
			!errors.Is(err, c.want) ||
			m.Content != nil {
			t.Errorf("%.10q…: %v, %v, want %v", c.text, ok, err, c.want)
		}
	}
}

// The largest number of entries: all new on both sides, or all of one name, or all with members in another
// order.
func TestAccountsBounded(t *testing.T) {
	t.Parallel()
	many := func(format string, from, n int) []byte {
		var b strings.Builder
		for i := from; i < from+n; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return []byte(b.String())
	}
	for name, c := range map[string][3][]byte{
		"new numbers": {nil, many("a%d:*:%[1]d:\n", 0, 150_000), many("b%d:*:%[1]d:\n", 0, 150_000)},
		"one name": {many("a:*:%d:\n", 0, 150_000), many("a:*:%d:\n", 1, 150_000),
			many("a:*:%d:\n", 2, 150_000)},
		"one number":     {nil, many("a%d:*:1:\n", 0, 150_000), many("b%d:*:1:\n", 0, 150_000)},
		"comments alike": {many("#\n", 0, 150_000), many("#\n", 0, 199_000), many("#\n", 0, 100_000)},
		"members": {[]byte("a:*:1:\n"),
			slices.Concat([]byte("a:*:1:"), many("m%d,", 0, 500_000), []byte("\n")),
			slices.Concat([]byte("a:*:1:"), many("t%d,", 0, 500_000), []byte("\n"))},
	} {
		start := time.Now()
		if _, _, err := Accounts("group", c[0], c[1], c[2], Names{}); err != nil ||
			time.Since(start) > 20*time.Second {
			t.Errorf("%s: %v after %v", name, err, time.Since(start))
		}
	}
}

func TestPasswd(t *testing.T) {
	t.Parallel()
	master := "# tag\n\n \t# indented\n#gone:" + hash + ":9:9::0:0:G:/:/x\n\t#" + hash + "\nroot:" + hash +
		":0:0:class:1:2:Charlie &:/root:/bin/csh\nann:x: 01001:+1001::0:0:Ann,Room 1:/home/ann:/bin/sh\n" +
		"M\xfc:*:4294967295:1::::::\n-evil:::::::::\n+@staff:x:00:::::::/bin/sh\n+:::::::::"
	want := "root:*:0:0:Charlie &:/root:/bin/csh\nann:*:1001:1001:Ann,Room " +
		"1:/home/ann:/bin/sh\n" +
		"M\xfc:*:4294967295:1:::\n-evil:*:::::\n+@staff:*:0::::/bin/sh\n+:*:::::\n"
	if got, err := Passwd([]byte(master)); err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if got, err := Passwd(nil); err != nil || len(got) > 0 {
		t.Error(got, err)
	}
}

// No line of master.passwd puts a password into passwd, however the line was commented out.
func TestPasswdHasNoPassword(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var master strings.Builder
		for range rapid.IntRange(1, 6).Draw(t, "lines") {
			master.WriteString(rapid.SampledFrom([]string{"", "#", " #", "\t# ", "##", "# was: ", "#\r"}).
				Draw(t, "before"))
			master.WriteString(rapid.SampledFrom([]string{
				"ann:$6$a$SECRETa:1001:1001::0:0:Ann:/home/ann:/bin/sh", "+:$6$b$SECRETb::::::::", "",
				"root:$6$c$SECRETc:0:0::0:0:R:/root:/bin/csh",
			}).Draw(t, "line") + rapid.SampledFrom([]string{"\n", "\r\n", ""}).Draw(t, "end"))
		}
		made, err := Passwd([]byte(master.String()))
		if strings.Contains(string(made)+fmt.Sprint(err), "SECRET") {
			t.Fatalf("%q makes %q, %v", master.String(), made, err)
		}
	})
}

// What pwd_mkdb refuses. No message has a password in it, even if one is in the wrong place.
func TestPasswdRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"#\nroot:" + hash + ":0:0\n":     "master.passwd:2: 4 fields where there ought to be 10",
		"root:" + hash + ":0:0:::::::\n": "master.passwd:1: 11 fields where there ought to be 10",
		"<<<<<<< saved\n":                "master.passwd:1: 1 fields where there ought to be 10",
		"\r\n":                           "master.passwd:1: 1 fields where there ought to be 10",
		"a:*:" + hash + ":0::::::\n":     "master.passwd:1: uid: no number of 32 bits",
		"a:*::0::::::\n":                 "master.passwd:1: uid: no number of 32 bits",
		"a:*:0:::::::\n":                 "master.passwd:1: gid: no number of 32 bits",
		"a:*:0:4294967296::::::\n":       "master.passwd:1: gid: no number of 32 bits",
		"root:*:1:0::::::\n":             "master.passwd:1: the uid of root is not 0",
		"a:*:1:1:::::/:" + strings.Repeat("x", 2033) + "\n": "master.passwd:1: longer than 2046 bytes",
		"a\x00:*:1:1::::::\n":                               "master.passwd: not text",
	} {
		if got, err := Passwd([]byte(text)); got != nil || err == nil || err.Error() != want {
			t.Errorf("%.40q: %v, want %s", text, err, want)
		}
	}
}

// line is an entry of group or master.passwd as tests make them, or another line.
type line struct{ name, rest string }

func textOf(lines []line) string {
	var s strings.Builder
	for _, l := range lines {
		s.WriteString(l.name + l.rest + "\n")
	}
	return s.String()
}

var values = map[string][]string{
	"password": {"*", "", "$6$a$SECRETa", "$6$b$SECRETb", "$6$c$SECRETc"},
	"number":   {"0", "1", "2", "3", "4", "5", "6"},
	"gecos":    {"", "x", "y"},
	"members":  {"", "root", "root,ann", "ann,root", "bob", "ann,bob,", "root,bob"},
}

// someLine draws a line of a file. With unique it draws no line that may occur twice.
func someLine(t *rapid.T, path string, unique bool) line {
	one := func(what string) string { return rapid.SampledFrom(values[what]).Draw(t, what) }
	if !unique && rapid.IntRange(0, 3).Draw(t, "other") == 0 {
		return line{
			"",
			rapid.SampledFrom([]string{"#", "# 2", "", "# $FreeBSD: 1$", "# $FreeBSD: 2$", "+", "+:::",
				"+:::::::::", "-x:::", "odd", "odd:x", "odd:$6$d$SECRETd:1"}).
				Draw(t, "line"),
		}
	}
	name := rapid.SampledFrom([]string{"root", "wheel", "a", "b", "c", "d", "e", "f"}).Draw(t, "name")
	if path == "group" {
		return line{name, fmt.Sprintf(":%s:%s:%s", one("password"), one("number"), one("members"))}
	}
	return line{
		name,
		fmt.Sprintf(":%s:%s:1::0:0:%s:/:%s", one("password"), one("number"), one("gecos"), one("gecos")),
	}
}

// someSide is a file with a few edits.
func someSide(t *rapid.T, path string, unique bool, from []line) []line {
	side := slices.Clone(from)
	for range rapid.IntRange(0, 5).Draw(t, "edits") {
		l := someLine(t, path, unique)
		at := slices.IndexFunc(side, func(s line) bool { return s.name == l.name })
		switch i := rapid.IntRange(0, len(side)).Draw(t, "at"); {
		case i < len(side) && rapid.Bool().Draw(t, "delete"):
			side = slices.Delete(side, i, i+1)
		case at >= 0 && l.name != "" && (unique || rapid.IntRange(0, 5).Draw(t, "twice") > 0):
			side[at] = l
		default:
			side = slices.Insert(side, i, l)
		}
	}
	return side
}

func drawAccounts(t *rapid.T, unique bool) (path string, old, mine, theirs []line) {
	path = rapid.SampledFrom([]string{"master.passwd", "group"}).Draw(t, "path")
	old = someSide(t, path, unique, nil)
	old = someSide(t, path, unique, old)
	return path, old, someSide(t, path, unique, old), someSide(t, path, unique, old)
}

func mustMerge(t *rapid.T, path string, old, mine, theirs []line) Merged {
	m, _, err := Accounts(path, []byte(textOf(old)), []byte(textOf(mine)), []byte(textOf(theirs)), labels)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// settled returns a result with all conflicts resolved for mine.
func settled(content []byte) []line {
	var out []line
	skip := false
	for l := range strings.Lines(string(content)) {
		switch l = strings.TrimSuffix(l, "\n"); {
		case strings.HasPrefix(l, "<<<<<<<"):
		case strings.HasPrefix(l, "|||||||"), strings.HasPrefix(l, ">>>>>>>"):
			skip = l[0] == '|'
		case !skip:
			name, rest, entry := strings.Cut(l, ":")
			if !entry || strings.ContainsAny(l[:1], "+-#") || name == "odd" {
				name, rest = "", l
			} else {
				rest = ":" + rest
			}
			out = append(out, line{name, rest})
		}
	}
	return out
}

func count(lines []line, match func(line) bool) (n int) {
	for _, l := range lines {
		if match(l) {
			n++
		}
	}
	return n
}

func named(name string) func(line) bool { return func(l line) bool { return l.name == name } }

func find(lines []line, name string) string {
	if i := slices.IndexFunc(lines, named(name)); i >= 0 {
		return lines[i].rest
	}
	return ""
}

func fieldOf(rest string, i int) string { return append(strings.Split(rest, ":"), "", "", "")[i] }

// These hold for any three files, also with names that occur twice.
func TestAccountsProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		path, old, mine, theirs := drawAccounts(t, false)
		for _, same := range [][4][]line{{old, mine, old, mine}, {old, old, theirs, theirs},
			{old, mine, mine, mine}} {
			if m := mustMerge(t, path, same[0], same[1], same[2]); string(m.Content) != textOf(same[3]) ||
				m.Conflicts > 0 ||
				m.Notes != nil {
				t.Fatalf("no identity:\n%s", m.Content)
			}
		}
		m := mustMerge(t, path, old, mine, theirs)
		if strings.Contains(strings.Join(m.Notes, "\n"), "SECRET") {
			t.Fatalf("a password is told: %q", m.Notes)
		}
		if m.Conflicts != strings.Count(string(m.Content), "<<<<<<<") || m.Conflicts > len(m.Notes) {
			t.Fatalf("%d conflicts, notes %q\n%s", m.Conflicts, m.Notes, m.Content)
		}
		result := settled(m.Content)
		for _, l := range mine {
			is := func(o line) bool { return untag(o) == untag(l) }
			if count(theirs, is) >= count(old, is) && count(result, is) < count(mine, is) &&
				(l.name == "" || slices.Equal(group(old, l.name), group(theirs, l.name))) {
				t.Fatalf("%q is lost:\n%s", l, m.Content)
			}
			if l.name != "" &&
				!slices.ContainsFunc(
					old,
					func(o line) bool { return o.name == l.name && fieldOf(o.rest, 1) == fieldOf(l.rest, 1) },
				) &&
				!strings.Contains(string(m.Content), l.name+":"+fieldOf(l.rest, 1)+":") {
				t.Fatalf("the password of %q is lost:\n%s", l, m.Content)
			}
		}
		if nis := slices.IndexFunc(result,
			func(l line) bool { return strings.HasPrefix(l.rest, "+") }); nis >= 0 &&
			!slices.ContainsFunc(append(slices.Clone(mine), theirs...), named("")) {
			t.Fatalf("NIS out of nowhere:\n%s", m.Content)
		}
	})
}

func untag(l line) line { return line{l.name, string(untagged([]byte(l.rest)))} }

func group(lines []line, name string) []line {
	return slices.DeleteFunc(slices.Clone(lines), func(l line) bool { return l.name != name })
}

// If names are unique, they are unique in the result. Whether there are conflicts does not depend on which
// side is which. No two names share a number that they share in neither side. The order is mine's.
func TestAccountsUniqueProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		path, old, mine, theirs := drawAccounts(t, true)
		m := mustMerge(t, path, old, mine, theirs)
		result := settled(m.Content)
		share := map[string]string{}
		var order []string
		for _, l := range result {
			if count(result, named(l.name)) != 1 {
				t.Fatalf("%s is there twice:\n%s", l.name, m.Content)
			}
			n := fieldOf(l.rest, 2)
			if o := share[n]; o != "" && !shared(mine, o, l.name, n) && !shared(theirs, o, l.name, n) {
				t.Fatalf("%s and %s come to share %s:\n%s", o, l.name, n, m.Content)
			}
			share[n] = l.name
			if find(mine, l.name) != "" {
				order = append(order, l.name)
			}
		}
		var want []string
		for _, l := range mine {
			if find(result, l.name) != "" {
				want = append(want, l.name)
			}
		}
		if !slices.Equal(order, want) && !slices.Equal(old, mine) {
			t.Fatalf("order %q, mine %q", order, want)
		}
		// if one deleted and the other changed it, mine's version stays: this is not symmetric
		for _, l := range old {
			if a, b := find(mine, l.name), find(theirs, l.name); (a == "") != (b == "") && a+b != l.rest {
				return
			}
			if needed := map[string]string{"master.passwd": "root",
				"group": "wheel"}[path]; l.name == needed &&
				find(theirs, l.name)+find(mine, l.name) != l.rest+l.rest {
				return
			}
		}
		if back := mustMerge(t, path, old, theirs, mine); (back.Conflicts > 0) != (m.Conflicts > 0) {
			t.Fatalf("%d conflicts, the other way %d:\n%s\n%s", m.Conflicts, back.Conflicts, m.Content,
				back.Content)
		}
	})
}

func shared(lines []line, a, b, number string) bool {
	return fieldOf(find(lines, a), 2) == number && fieldOf(find(lines, b), 2) == number
}

func FuzzAccounts(f *testing.F) {
	f.Add([]byte(masterOld), []byte(with(masterOld, "-games")), []byte(with(masterOld, "x:*:1:1::0:0:::")))
	f.Add([]byte(groupOld), []byte(with(groupOld, "a:*:9:", "+:::")),
		[]byte(crlf(with(groupOld, "b:*:9:", "-wheel"))))
	f.Add([]byte("a:\r\n"), []byte("+:\n\n"), []byte(":::::::::"))
	f.Fuzz(func(t *testing.T, old, mine, theirs []byte) {
		for path := range accountForms {
			m, ok, err := Accounts(path, old, mine, theirs, labels)
			if !ok || err != nil && !errors.Is(err, ErrBinary) && !errors.Is(err, ErrTooLarge) {
				t.Fatal(ok, err)
			}
			if n := len(m.Content); err == nil && m.Conflicts == 0 && n > 0 &&
				strings.HasSuffix(string(mine), "\n") &&
				m.Content[n-1] != '\n' &&
				string(old) != string(mine) {
				t.Fatalf("no end: %q", m.Content)
			}
			for _, same := range [][4][]byte{{old, mine, old, mine}, {old, old, theirs, theirs},
				{old, mine, mine, mine}} {
				if m, _, err := Accounts(path, same[0], same[1], same[2], Names{}); err != nil ||
					string(m.Content) != string(same[3]) {
					t.Fatal("no identity", err)
				}
			}
		}
		_, _ = Passwd(mine)
	})
}
