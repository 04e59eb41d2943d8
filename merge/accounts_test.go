package merge

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The accounts of a release, and what is made of them.
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
	hash = "$6$salt$0123456789abcdefghijklmnopqrstuvwxyz"
)

// with replaces lines of a text: each "NAME:…" for the entry of that name, "-NAME" to drop it, anything else is added at the end.
func with(text string, changes ...string) string {
	all := strings.SplitAfter(text, "\n")
	all = all[:len(all)-1]
	for _, c := range changes {
		name, _, _ := strings.Cut(strings.TrimPrefix(c, "-"), ":")
		at := slices.IndexFunc(all, func(l string) bool { return strings.HasPrefix(l, name+":") })
		switch {
		case at >= 0 && c == "-"+name:
			all = slices.Delete(all, at, at+1)
		case at >= 0:
			all[at] = c + "\n"
		default:
			all = append(all, c+"\n")
		}
	}
	return strings.Join(all, "")
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	root := "root:" + hash + ":0:0::0:0:Charlie &:/root:/bin/csh"
	deploy := "deploy:" + hash + ":556:556::0:0:Deploys:/home/deploy:/bin/sh"
	dbus := "dbus:*:556:556::0:0:D-BUS Daemon User:/nonexistent:/usr/sbin/nologin"
	for _, c := range []struct {
		name         string
		mine, theirs string
		want         string // "" where there is a conflict
		notes        []string
	}{
		{"a password here, a new user there", with(masterOld, root), with(masterOld, dbus), with(masterOld, root, dbus), nil},
		{"shell here, home there", with(masterOld, "www:*:80:80::0:0:World Wide Web Owner:/nonexistent:/bin/sh"), with(masterOld, "www:*:80:80::0:0:World Wide Web Owner:/var/empty:/usr/sbin/nologin"),
			with(masterOld, "www:*:80:80::0:0:World Wide Web Owner:/var/empty:/bin/sh"), nil},
		{"the same change", with(masterOld, dbus, deploy), with(masterOld, dbus), with(masterOld, dbus, deploy), nil},
		{"a tag alone", with(masterOld, root), strings.Replace(masterOld, "256366 2013-10-12", "300000 2016-05-16", 1),
			with(strings.Replace(masterOld, "256366 2013-10-12", "300000 2016-05-16", 1), root), nil},
		{"deleted here", with(masterOld, "-games"), with(masterOld, dbus), with(masterOld, "-games", dbus), nil},
		{"deleted here, changed there", with(masterOld, "-games"), with(masterOld, "games:*:7:14::0:0:Games:/:/usr/sbin/nologin"), with(masterOld, "-games"),
			[]string{"user games: deleted here and changed in the new default: it stays deleted"}},
		{"deleted there", with(masterOld, root), with(masterOld, "-games"), with(masterOld, root, "-games"), nil},
		{"deleted there, changed here", with(masterOld, "games:"+hash+":7:13::0:0:Games pseudo-user:/:/bin/sh"), with(masterOld, "-games"),
			with(masterOld, "games:"+hash+":7:13::0:0:Games pseudo-user:/:/bin/sh"), []string{"user games: gone from the new default, and kept: it was changed here"}},
		{"root deleted there", with(masterOld, deploy), with(masterOld, "-root"), with(masterOld, deploy), []string{"user root: gone from the new default, and kept: it was changed here"}},
		{"a number that is taken", with(masterOld, deploy), with(masterOld, dbus), "", []string{"user dbus: uid 556 is taken by deploy: not added"}},
		{"both set a password", with(masterOld, root), with(masterOld, "root:*:0:0::0:0:Charlie &:/root:/bin/csh"), "", []string{"user root: password changed on both sides"}},
		{"both change the shell", with(masterOld, "root::0:0::0:0:Charlie &:/root:/bin/sh"), with(masterOld, "root::0:0::0:0:Charlie &:/root:/bin/tcsh"), "",
			[]string{`user root: shell "/bin/sh" here, "/bin/tcsh" in the new default`}},
		{"both add it, and differently", with(masterOld, "dbus:*:600:600::0:0:D-BUS Daemon User:/nonexistent:/usr/sbin/nologin"), with(masterOld, dbus), "",
			[]string{`user dbus: uid "600" here, "556" in the new default, gid "600" here, "556" in the new default`}},
		{"NIS lines stay last", with(masterOld, "+:::::::::"), with(masterOld, dbus), with(masterOld, dbus, "+:::::::::"), nil},
		{"what is no entry stays", with(masterOld, "broken line"), with(masterOld, dbus), with(masterOld, dbus, "broken line"), nil},
	} {
		m, ok, err := Accounts("master.passwd", []byte(masterOld), []byte(c.mine), []byte(c.theirs), Names{"saved", "old", "new"})
		if !ok || err != nil || (m.Conflicts > 0) != (c.want == "") || c.want != "" && string(m.Content) != c.want {
			t.Errorf("%s: %v, %v, %d conflicts\n%s\nwant\n%s", c.name, ok, err, m.Conflicts, m.Content, c.want)
		}
		if !slices.Equal(m.Notes, c.notes) {
			t.Errorf("%s: %q", c.name, m.Notes)
		}
		if strings.Contains(strings.Join(m.Notes, ""), hash) {
			t.Errorf("%s: a hash is shown", c.name)
		}
	}
}

func TestAccountsMarkers(t *testing.T) {
	t.Parallel()
	old := "a:*:1:1::0:0:A:/:/bin/sh\n"
	m, _, err := Accounts("master.passwd", []byte(old), []byte("a:*:1:1::0:0:Mine:/home:/bin/sh\nd:*:9:9::0:0:D:/:/x\n"), []byte("a:*:1:2::0:0:Theirs:/:/bin/sh\nn:*:9:9::0:0:N:/:/x\n"), Names{"saved", "old", "new"})
	want := `<<<<<<< saved
a:*:1:2::0:0:Mine:/home:/bin/sh
||||||| old
a:*:1:1::0:0:A:/:/bin/sh
=======
a:*:1:2::0:0:Theirs:/home:/bin/sh
>>>>>>> new
<<<<<<< saved
||||||| old
=======
n:*:9:9::0:0:N:/:/x
>>>>>>> new
d:*:9:9::0:0:D:/:/x
`
	if err != nil || m.Conflicts != 2 || string(m.Content) != want {
		t.Errorf("%v, %d\n%s", err, m.Conflicts, m.Content)
	}
}

func TestGroups(t *testing.T) {
	t.Parallel()
	old := "# g\nwheel:*:0:root\noperator:*:5:root,toor\nwww:*:80:\n"
	for _, c := range []struct{ mine, theirs, want string }{
		{with(old, "wheel:*:0:root,ann"), with(old, "wheel:*:0:root,bob"), with(old, "wheel:*:0:root,ann,bob")},
		{with(old, "operator:*:5:root"), with(old, "operator:*:5:root,toor,new"), with(old, "operator:*:5:root,new")},
		{with(old, "operator:*:5:toor,root"), with(old, "operator:*:5:root"), with(old, "operator:*:5:root")},
		{with(old, "www:*:80:ann", "staff:*:1001:ann"), with(old, "-operator", "dbus:*:556:"), with(with(old, "-operator"), "www:*:80:ann", "dbus:*:556:", "staff:*:1001:ann")},
	} {
		m, ok, err := Accounts("group", []byte(old), []byte(c.mine), []byte(c.theirs), Names{})
		if !ok || err != nil || m.Conflicts > 0 || string(m.Content) != c.want {
			t.Errorf("%v, %v\n%s\nwant\n%s", err, m.Conflicts, m.Content, c.want)
		}
	}
}

func TestAccountsRefuse(t *testing.T) {
	t.Parallel()
	if _, ok, _ := Accounts("rc.conf", nil, nil, nil, Names{}); ok || IsAccounts("rc.conf") || !IsAccounts("group") {
		t.Error("rc.conf is no account file")
	}
	if _, ok, err := Accounts("group", []byte("a\x00"), nil, nil, Names{}); !ok || !errors.Is(err, ErrBinary) {
		t.Error(err)
	}
	if _, _, err := Accounts("group", []byte(strings.Repeat("\n", maxAccountLines+1)), nil, nil, Names{}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

func TestPasswd(t *testing.T) {
	t.Parallel()
	got, err := Passwd([]byte("# tag\n\nroot:" + hash + ":0:0:class:1:2:Charlie &:/root:/bin/csh\nann:x:1001:1001::0:0:Ann,Room 1:/home/ann:/bin/sh\n+:::::::::\n"))
	if want := "# tag\n\nroot:*:0:0:Charlie &:/root:/bin/csh\nann:*:1001:1001:Ann,Room 1:/home/ann:/bin/sh\n+:*:::::\n"; err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
	if _, err := Passwd([]byte("root:x:0:0\n")); err == nil || !strings.Contains(err.Error(), "master.passwd:1: 4 fields") {
		t.Error(err)
	}
}

// someAccounts are entries of a few names, with few values, so that sides meet.
var someAccounts = rapid.Custom(func(t *rapid.T) string {
	var s strings.Builder
	for _, name := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"root", "a", "b", "c", "d", "e"}), 0, 6, rapid.ID).Draw(t, "names") {
		value := func(what string, of ...string) string { return rapid.SampledFrom(of).Draw(t, what) }
		fmt.Fprintf(&s, "%s:%s:%s:%s::0:0:%s:/:%s\n", name, value("password", "*", "H1", "H2"), value("uid", "1", "2", "3"), value("gid", "1", "2"), value("gecos", "x", "y"), value("shell", "sh", "csh"))
	}
	return s.String()
})

func TestAccountsProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		old, mine, theirs := someAccounts.Draw(t, "old"), someAccounts.Draw(t, "mine"), someAccounts.Draw(t, "theirs")
		merge := func(o, m, th string) Merged {
			r, _, err := Accounts("master.passwd", []byte(o), []byte(m), []byte(th), Names{})
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		if string(merge(old, mine, old).Content) != mine || string(merge(old, old, theirs).Content) != theirs || string(merge(old, mine, mine).Content) != mine {
			t.Fatal("no identity")
		}
		r := merge(old, mine, theirs)
		entries := func(text string) map[string]string {
			m := map[string]string{}
			for l := range strings.Lines(text) {
				if name, rest, ok := strings.Cut(l, ":"); ok {
					m[name] = rest
				}
			}
			return m
		}
		o, m := entries(old), entries(mine)
		for name, rest := range m {
			password, _, _ := strings.Cut(rest, ":")
			was, _, _ := strings.Cut(o[name], ":")
			if password != was && o[name] != rest && !strings.Contains(string(r.Content), name+":"+password+":") {
				t.Fatalf("the password of %s is lost:\n%s", name, r.Content)
			}
		}
		if strings.Contains(strings.Join(r.Notes, ""), "H1") || strings.Contains(strings.Join(r.Notes, ""), "H2") {
			t.Fatalf("a password is shown: %q", r.Notes)
		}
		if r.Conflicts == 0 {
			for l := range strings.Lines(string(r.Content)) {
				if strings.Count("\n"+string(r.Content), "\n"+strings.SplitAfter(l, ":")[0]) != 1 {
					t.Fatalf("twice: %s\n%s", l, r.Content)
				}
			}
		}
	})
}

func FuzzAccounts(f *testing.F) {
	f.Add([]byte(masterOld), []byte(with(masterOld, "-games")), []byte(with(masterOld, "x:*:1:1::0:0:::")))
	f.Add([]byte("a:\r\n"), []byte("+:\n\n"), []byte(":::::::::"))
	f.Fuzz(func(t *testing.T, old, mine, theirs []byte) {
		for path := range accountForms {
			if _, ok, err := Accounts(path, old, mine, theirs, Names{"m", "o", "t"}); !ok || err != nil && !errors.Is(err, ErrBinary) && !errors.Is(err, ErrTooLarge) {
				t.Fatal(ok, err)
			}
			if m, _, err := Accounts(path, old, mine, old, Names{}); err == nil && string(m.Content) != string(mine) {
				t.Fatal("no identity")
			}
		}
		_, _ = Passwd(mine)
	})
}
