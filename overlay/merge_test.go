package overlay

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/merge"
	"cfgd/overlay/tree"
)

// upgrade stops the jail, gives it another base and starts it.
func (b *box) upgrade(base string) *Population {
	b.Helper()
	b.must(b.o.Clear(context.Background()))
	b.on = base
	b.o = b.overlay()
	p := b.populate()
	if p.Unmerged != nil {
		b.Fatal(p.Unmerged)
	}
	if v := b.look(); len(v.Unsaved) > 0 {
		b.Errorf("unsaved after the merge: %v", v.Unsaved)
	}
	b.settled()
	return p
}

// text returns n numbered lines, some of them replaced.
func text(n int, instead map[int]string) string {
	var s strings.Builder
	for i := 1; i <= n; i++ {
		if l, ok := instead[i]; ok {
			s.WriteString(l)
			continue
		}
		fmt.Fprintf(&s, "option_%d=\"NO\"\n", i)
	}
	return s.String()
}

// verdicts returns the outcomes in words.
func verdicts(m *merge.Result) map[string]merge.Verdict {
	out := map[string]merge.Verdict{}
	for _, u := range m.Outcomes {
		out[u.Path] = u.Verdict
	}
	return out
}

// The whole table of outcomes in one upgrade.
func TestUpgrade(t *testing.T) {
	b := newBox(t, map[string]string{
		"kept": "a\n", "merged": text(20, nil), "equal": "old\n", "conflict": text(20, nil), "gone": "x\n",
		"rm-same": "r\n", "rm-changed": "r\n", "rm-gone": "r\n",
		"pinned": "old\n", "mode": text(3, nil), "binary": "\x00a", "untouched": "1\n", "typed": "t\n",
		"d/below": "b\n",
	})
	for p, content := range map[string]string{
		"kept": "a\n", "merged": text(20, map[int]string{2: "option_2=\"default\"\n"}), "equal": "new\n",
		"conflict": text(20, map[int]string{5: "option_5=\"theirs\"\n"}),
		"rm-same":  "r\n", "rm-changed": "R\n", "pinned": "new\n", "mode": text(3, nil), "binary": "\x00b",
		"untouched": "2\n", "both": "theirs\n", "both-same": "same\n",
		"new": "n\n", "d/below": "b\n", "way": "a file now\n",
	} {
		b.write("base2/"+p, content)
	}
	b.must(os.Symlink("untouched", b.path("base2/typed")))
	b.must(os.Chmod(b.path("base2/mode"), 0o600))
	b.populate()
	for p, content := range map[string]string{
		"kept": "mine\n", "merged": text(20, map[int]string{19: "option_19=\"mine\"\n"}), "equal": "new\n",
		"conflict": text(20, map[int]string{5: "option_5=\"mine\"\n"}),
		"gone":     "mine\n", "pinned": "new\n", "mode": text(3, map[int]string{1: "mine\n"}),
		"binary": "\x00c",
		"both":   "mine\n", "both-same": "same\n", "own": "own\n",
		"typed": "mine\n", "way/file": "in a directory\n",
	} {
		b.edit(p, content)
	}
	for _, p := range []string{"rm-same", "rm-changed", "rm-gone"} {
		b.remove(p)
	}
	b.save()
	if _, err := b.o.Pin(t.Context(), []string{"pinned"}, false); err != nil {
		t.Fatal(err)
	}
	p := b.upgrade("/base2")
	want := map[string]merge.Verdict{
		"kept": merge.VerdictKept, "merged": merge.VerdictMerged, "equal": merge.VerdictEqual,
		"conflict": merge.VerdictConflict, "gone": merge.VerdictGone, "rm-same": merge.VerdictKept,
		"rm-changed": merge.VerdictRemoved,
		"rm-gone":    merge.VerdictEqual, "pinned": merge.VerdictEqual, "mode": merge.VerdictMerged,
		"binary": merge.VerdictConflict, "both": merge.VerdictBoth, "both-same": merge.VerdictEqual,
		"own":   merge.VerdictKept,
		"typed": merge.VerdictConflict, "way": merge.VerdictBoth, "way/file": merge.VerdictKept,
	}
	got := verdicts(p.Merge)
	for path, v := range want {
		if got[path] != v {
			t.Errorf("%s: %q, want %q", path, got[path], v)
		}
		delete(got, path)
	}
	if len(got) > 0 {
		t.Errorf("more: %v", got)
	}
	b.holds(map[string]string{
		"kept": "mine\n", "merged": text(20,
			map[int]string{2: "option_2=\"default\"\n", 19: "option_19=\"mine\"\n"}), "equal": "new\n",
		"conflict": text(
			20,
			map[int]string{5: "option_5=\"mine\"\n"},
		), "gone": "mine\n", "both": "mine\n", "untouched": "2\n", "new": "n\n", "binary": "\x00c",
		"typed": "mine\n", "way/file": "in a directory\n", "own": "own\n",
	})
	for _, path := range []string{"rm-same", "rm-changed", "rm-gone"} {
		if _, err := os.Lstat(b.path("jail/etc/" + path)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if st, err := os.Stat(b.path("jail/etc/mode")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v, %v", st, err)
	}
	v := b.look()
	if v.Current.BaseID != "proto/etc@2" || v.Current.From != "proto/etc@1" || len(v.Conflicts()) != 5 {
		t.Errorf("manifest: %s from %s, %d conflicts", v.Current.BaseID, v.Current.From, len(v.Conflicts()))
	}
	if _, ok := v.Current.Override("equal"); ok {
		t.Error("equal is still an override")
	}
	if _, ok := v.Current.Override("pinned"); !ok {
		t.Error("pinned is no override")
	}
	// The same base again: nothing to merge.
	if p := b.upgrade("/base2"); p.Merge != nil {
		t.Errorf("merged again: %v", verdicts(p.Merge))
	}
}

// holds checks contents of live.
func (b *box) holds(files map[string]string) {
	b.Helper()
	for p, want := range files {
		if got := b.read("jail/etc/" + p); got != want {
			b.Errorf("%s holds %q, want %q", p, got, want)
		}
	}
}

// After an upgrade, an edit and a downgrade neither the edit nor the old form is lost; and so after another
// upgrade.
func TestThereAndBack(t *testing.T) {
	b := newBox(t, map[string]string{"rc.conf": text(20, nil), "equal": "old\n", "sshd": text(20, nil)})
	b.write("base2/rc.conf", text(20, map[int]string{10: "option_10=\"default\"\n"}))
	b.write("base2/equal", "new\n")
	b.write("base2/sshd", text(20, nil))
	b.populate()
	b.edit("rc.conf", text(20, map[int]string{2: "option_2=\"mine\"\n"}))
	b.edit("equal", "new\n")
	b.edit("sshd", "all mine\n")
	b.save()
	before := b.tree("jail/cfg")
	b.upgrade("/base2")
	b.upgrade("")
	if after := b.tree("jail/cfg"); after != before {
		t.Errorf("there and back without an edit: %s", lineDiff(before, after))
	}
	b.upgrade("/base2")
	b.edit(
		"rc.conf",
		text(20, map[int]string{
			2:  "option_2=\"mine\"\n",
			10: "option_10=\"default\"\n",
			18: "option_18=\"later\"\n",
		}),
	)
	b.edit("new", "later\n")
	b.remove("sshd")
	b.save()
	p := b.upgrade("")
	if p.Merge.RevertsTo == 0 || p.Merge.Conflicts() > 0 {
		t.Errorf("%+v", p.Merge)
	}
	b.holds(map[string]string{
		"rc.conf": text(20, map[int]string{2: "option_2=\"mine\"\n", 18: "option_18=\"later\"\n"}),
		"new":     "later\n",
		"equal":   "new\n",
		"sshd":    "(absent)",
	})
	b.upgrade("/base2")
	b.holds(map[string]string{
		"rc.conf": text(20, map[int]string{
			2:  "option_2=\"mine\"\n",
			10: "option_10=\"default\"\n",
			18: "option_18=\"later\"\n",
		}),
		"new":  "later\n",
		"sshd": "(absent)",
	})
}

// tree prints a directory's paths, modes, times of files and contents, without .cfgd.
func (b *box) tree(dir string) string {
	b.Helper()
	v, err := b.overlay().Look(context.Background(), LookOptions{})
	b.must(err)
	var s strings.Builder
	for _, e := range v.Plain.Entries {
		fmt.Fprintf(&s, "%s %s %o %d %d %s %s\n", e.Path, e.Kind, e.Mode, e.Size, fileTime(&e), e.Digest,
			e.Link)
	}
	return s.String()
}

func (b *box) conflicted(policy config.OnConflict) {
	b.Helper()
	b.write("base2/rc.conf", text(9, map[int]string{5: "theirs\n"}))
	b.write("base2/other", "o\n")
	b.populate()
	b.edit("rc.conf", text(9, map[int]string{5: "mine\n"}))
	b.save()
	b.must(b.o.Clear(context.Background()))
	b.on = "/base2"
	b.o = b.overlay()
	b.o.Target.OnConflict = policy
	b.populate()
}

func TestResolve(t *testing.T) {
	mine, theirs := text(9, map[int]string{5: "mine\n"}), text(9, map[int]string{5: "theirs\n"})
	for _, policy := range []config.OnConflict{config.ConflictMine, config.ConflictTheirs} {
		for _, c := range []struct {
			how  Choice
			edit string
			want string
		}{
			{Choice{Take: config.ConflictMine}, "", mine},
			{Choice{Take: config.ConflictTheirs}, "", theirs},
			{Choice{}, "both\n", "both\n"},
			{Choice{Content: []byte("given\n")}, "", "given\n"},
		} {
			t.Run(fmt.Sprint(policy, c.how), func(t *testing.T) {
				b := newBox(t, map[string]string{"rc.conf": text(9, nil), "other": "o\n"})
				b.conflicted(policy)
				taken := map[config.OnConflict]string{config.ConflictMine: mine,
					config.ConflictTheirs: theirs}[policy]
				b.holds(map[string]string{"rc.conf": taken})
				cs := b.look().Conflicts()
				if len(cs) != 1 || cs[0].Taken != policy || cs[0].Text == nil {
					t.Fatalf("%+v", cs)
				}
				marked, err := b.o.History().Content(t.Context(), cs[0].Text)
				if err != nil ||
					!strings.Contains(
						string(marked),
						"<<<<<<< saved\nmine\n||||||| default of proto/etc@1\noption_5=\"NO\"\n=======\n"+
							"theirs\n>>>>>>> default of proto/etc@2\n",
					) {
					t.Errorf("%v\n%s", err, marked)
				}
				if c.edit != "" {
					b.edit("rc.conf", c.edit)
				}
				if _, err := b.o.Resolve(t.Context(), []string{"other"}, c.how); !errors.Is(
					err,
					ErrNoConflict,
				) {
					t.Errorf("no conflict: %v", err)
				}
				r, err := b.o.Resolve(t.Context(), []string{"rc.conf"}, c.how)
				if err != nil {
					t.Fatal(err)
				}
				b.holds(map[string]string{"rc.conf": c.want})
				v := b.look()
				if len(v.Conflicts()) > 0 || len(v.Unsaved) > 0 || v.Current.Generation != r.Generation {
					t.Errorf("after: %+v, %v, generation %d", v.Conflicts(), v.Unsaved, v.Current.Generation)
				}
				if _, ok := v.Current.Override("rc.conf"); ok == (c.want == theirs) {
					t.Errorf("override: %v", ok)
				}
				b.settled()
				b.restart()
				b.holds(map[string]string{"rc.conf": c.want})
			})
		}
	}
}

// A conflict that nobody resolved stays a conflict on the next base, against the default that mine was made
// from.
func TestConflictStaysUntilResolved(t *testing.T) {
	for _, policy := range []config.OnConflict{config.ConflictMine, config.ConflictTheirs} {
		b := newBox(t, map[string]string{"rc.conf": text(9, nil)})
		b.conflicted(policy)
		b.write("base3/rc.conf", text(9, map[int]string{5: "theirs\n", 9: "more\n"}))
		p := b.upgrade("/base3")
		cs := b.look().Conflicts()
		if len(cs) != 1 || p.Merge.Conflicts() != 1 || cs[0].Taken != policy {
			t.Fatalf("%s: %+v", policy, cs)
		}
		if _, err := b.o.Resolve(t.Context(), []string{"rc.conf"},
			Choice{Take: config.ConflictMine}); err != nil {
			t.Fatal(err)
		}
		b.holds(map[string]string{"rc.conf": text(9, map[int]string{5: "mine\n"})})
		// Resolved against base3: a base that changes other places merges.
		b.write("base4/rc.conf", text(9, map[int]string{1: "first\n", 5: "theirs\n", 9: "more\n"}))
		if p := b.upgrade("/base4"); p.Merge.Conflicts() != 0 {
			t.Errorf("%+v", p.Merge.Outcomes)
		}
		b.holds(map[string]string{"rc.conf": text(9, map[int]string{1: "first\n", 5: "mine\n"})})
	}
}

func TestPin(t *testing.T) {
	b := newBox(t, map[string]string{"rc.conf": "a\n", "d/x": "x\n", "d/y": "y\n"})
	b.populate()
	if _, err := b.o.Pin(t.Context(), []string{"rc.conf", "d"}, false); err != nil {
		t.Fatal(err)
	}
	b.settled()
	for _, p := range []string{"rc.conf", "d/x", "d/y"} {
		if got, want := b.read("jail/cfg/"+p), b.read("base/"+p); got != want {
			t.Errorf("cfg %s: %q", p, got)
		}
	}
	b.edit("rc.conf", "b\n")
	b.save()
	b.edit("rc.conf", "a\n")
	if r := b.save(); len(r.Released) > 0 {
		t.Errorf("released %v", r.Released)
	}
	b.write("base2/rc.conf", "new\n")
	b.write("base2/d/x", "new\n")
	b.write("base2/d/z", "z\n")
	b.upgrade("/base2")
	b.holds(map[string]string{"rc.conf": "a\n", "d/x": "x\n", "d/y": "y\n"})
	if _, err := b.o.Pin(t.Context(), []string{"d"}, true); err != nil {
		t.Fatal(err)
	}
	if _, err := b.o.Pin(t.Context(), []string{"d"}, true); err == nil {
		t.Error("unpinned twice")
	}
	b.settled()
	b.holds(map[string]string{"rc.conf": "a\n", "d/x": "x\n", "d/y": "y\n"})
}

func TestRollback(t *testing.T) {
	b := newBox(t, map[string]string{"rc.conf": text(20, nil), "gone": "g\n"})
	b.populate()
	b.edit("rc.conf", text(20, map[int]string{2: "first\n"}))
	first := b.save().Generation
	b.edit("rc.conf", text(20, map[int]string{2: "second\n"}))
	b.edit("new", "n\n")
	b.remove("gone")
	b.save()
	b.edit("unsaved", "u\n")
	r, m, err := b.o.Rollback(t.Context(), first)
	if err != nil || m != nil {
		t.Fatal(m, err)
	}
	b.holds(map[string]string{
		"rc.conf": text(20, map[int]string{2: "first\n"}),
		"new":     "(absent)",
		"gone":    "g\n",
		"unsaved": "(absent)",
	})
	if v := b.look(); len(v.Unsaved) > 0 || v.Current.Generation != r.Generation {
		t.Errorf("%v, %d", v.Unsaved, v.Current.Generation)
	}
	b.settled()
	// Back to before the rollback, and across a change of the base.
	b.write("base2/rc.conf", text(20, map[int]string{15: "default\n"}))
	b.upgrade("/base2")
	_, m, err = b.o.Rollback(t.Context(), r.Generation-1)
	if err != nil || m == nil || m.To != "proto/etc@2" {
		t.Fatal(m, err)
	}
	b.holds(map[string]string{
		"rc.conf": text(20, map[int]string{2: "second\n", 15: "default\n"}),
		"new":     "n\n",
		"unsaved": "u\n",
	})
	if _, _, err := b.o.Rollback(t.Context(), 999); err == nil ||
		!strings.Contains(err.Error(), "generation 999 is not kept") {
		t.Error(err)
	}
	b.settled()
}

// What a plan says is what is done, and planning writes nothing.
func TestPlanOnARunningJail(t *testing.T) {
	b := newBox(t, map[string]string{"rc.conf": text(20, nil), "x": "x\n"})
	b.write("base2/rc.conf", text(20, map[int]string{2: "default\n"}))
	b.populate()
	b.edit("rc.conf", text(20, map[int]string{15: "unsaved\n"}))
	b.edit("x", "y\n")
	before := b.tree("jail/cfg")
	m, err := b.o.PlanMerge(t.Context(), BaseRef{"/base2", "proto/etc@2"})
	b.must(err)
	if got := verdicts(m); got["rc.conf"] != merge.VerdictMerged || got["x"] != merge.VerdictGone ||
		len(got) != 2 {
		t.Errorf("%v", got)
	}
	if after := b.tree("jail/cfg"); after != before || b.look().Current.Generation != 0 {
		t.Error("planning wrote something")
	}
	same, err := b.o.PlanMerge(t.Context(), b.o.Next())
	b.must(err)
	if slices.ContainsFunc(
		same.Outcomes,
		func(u merge.Outcome) bool { return u.Verdict != merge.VerdictKept },
	) {
		t.Errorf("on the same base: %v", verdicts(same))
	}
}

// The way back stays open, however many generations follow the upgrade.
func TestWayBackIsKept(t *testing.T) {
	b := newBox(t, map[string]string{"rc.conf": text(20, nil), "equal": "old\n"})
	b.write("base2/rc.conf", text(20, map[int]string{10: "default\n"}))
	b.write("base2/equal", "new\n")
	b.populate()
	b.edit("equal", "new\n")
	b.save()
	b.upgrade("/base2")
	b.o.Target.KeepGenerations = 3
	for i := range 10 {
		b.edit("rc.conf", text(20, map[int]string{2: fmt.Sprintln("edit", i), 10: "default\n"}))
		b.save()
	}
	all, err := b.o.History().Log(t.Context())
	b.must(err)
	if len(all) > 6 {
		t.Errorf("%d generations are kept", len(all))
	}
	if p := b.upgrade(""); p.Merge.RevertsTo != 1 {
		t.Errorf("%+v", p.Merge)
	}
	b.holds(map[string]string{"rc.conf": text(20, map[int]string{2: "edit 9\n"}), "equal": "new\n"})
}

// A key or certificate is not merged by lines.
func TestKeysAreNotMerged(t *testing.T) {
	pem := func(instead map[int]string) string {
		return "-----BEGIN CERTIFICATE-----\n" + text(20, instead) + "-----END CERTIFICATE-----\n"
	}
	b := newBox(t, map[string]string{"cert.pem": pem(nil)})
	b.write("base2/cert.pem", pem(map[int]string{2: "theirs\n"}))
	b.populate()
	b.edit("cert.pem", pem(map[int]string{15: "mine\n"}))
	b.save()
	p := b.upgrade("/base2")
	if p.Merge.Conflicts() != 1 || !strings.Contains(p.Merge.Outcomes[0].Notes[0], "a key or certificate") {
		t.Errorf("%+v", p.Merge.Outcomes)
	}
	b.holds(map[string]string{"cert.pem": pem(map[int]string{15: "mine\n"})})
}

const (
	masterOld = "root:*:0:0::0:0:Charlie &:/root:/bin/csh\n" +
		"www:*:80:80::0:0:Web:/nonexistent:/usr/sbin/nologin\n"
	passwdOld = "root:*:0:0:Charlie &:/root:/bin/csh\nwww:*:80:80:Web:/nonexistent:/usr/sbin/nologin\n"
	dbus      = "dbus:*:556:556::0:0:D-BUS:/nonexistent:/usr/sbin/nologin\n"
)

func account(password string) string {
	return strings.Replace(masterOld, "root:*:", "root:"+password+":", 1)
}

// Accounts merge by entry, passwd follows master.passwd, and the databases are made anew. If they can't be, a
// note names the command.
func TestAccountsFollow(t *testing.T) {
	base := map[string]string{
		"master.passwd": masterOld,
		"passwd":        passwdOld,
		"pwd.db":        "\x00old",
		"spwd.db":       "\x00old",
		"login.conf":    "default:\\\n\t:x:\n",
	}
	for _, tools := range []bool{true, false} {
		b := newBox(t, base)
		for p, content := range base {
			b.write("base2/"+p, content)
		}
		b.write("base2/master.passwd", masterOld+dbus)
		b.write("base2/passwd", passwdOld+"dbus:*:556:556:D-BUS:/nonexistent:/usr/sbin/nologin\n")
		b.write("base2/pwd.db", "\x00new")
		b.write("base2/spwd.db", "\x00new")
		if tools {
			b.tools.Derive = func(_ context.Context, source string, content []byte) (map[string][]byte,
				string, error) {
				if source != "master.passwd" || string(content) != account("HASH")+dbus {
					return nil, "", fmt.Errorf("%s: %s", source, content)
				}
				return map[string][]byte{
					"pwd.db":  []byte("\x00merged"),
					"spwd.db": []byte("\x00merged secret"),
				}, "pwd_mkdb -p -d DIR DIR/master.passwd", nil
			}
		}
		b.o = b.overlay()
		b.populate()
		for p, content := range map[string]string{"master.passwd": account("HASH"), "pwd.db": "\x00mine",
			"spwd.db": "\x00mine"} {
			b.edit(p, content)
		}
		b.must(os.Chmod(b.path("jail/etc/spwd.db"), 0o600))
		b.save()
		p := b.upgrade("/base2")
		want := map[string]string{
			"master.passwd": account("HASH") + dbus,
			"passwd":        b.read("base2/passwd"),
			"pwd.db":        "\x00merged",
			"spwd.db":       "\x00merged secret",
		}
		if !tools {
			want["pwd.db"], want["spwd.db"] = "\x00mine", "\x00mine"
			if notes := fmt.Sprint(p.Merge.Outcomes); !strings.Contains(
				notes,
				"pwd.db and spwd.db kept as they are: no program here makes them; run pwd_mkdb -p -d "+
					"/jail/etc /jail/etc/master.passwd",
			) {
				t.Error(notes)
			}
		} else if !slices.Equal(p.Merge.Commands, []string{"pwd_mkdb -p -d DIR DIR/master.passwd"}) {
			t.Errorf("%q", p.Merge.Commands)
		}
		b.holds(want)
		if st, err := os.Stat(b.path("jail/etc/spwd.db")); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", st, err)
		}
		if _, ok := b.look().Current.Override("passwd"); ok {
			t.Error("passwd equals the default, and is an override")
		}
		if strings.Contains(fmt.Sprint(p.Merge.Outcomes), "HASH") {
			t.Error("a hash is shown")
		}
	}
}

// A merged text is a conflict if its checker rejects it and accepts both sides. A text whose sides are
// rejected too is no worse than before.
func TestRejected(t *testing.T) {
	open, shut := map[int]string{2: "if true; then\n"}, map[int]string{9: "fi\n"}
	b := newBox(t, map[string]string{"rc.conf": text(10, nil), "other": text(10, nil)})
	b.tools.Check = func(_ context.Context, path string, content []byte) (string, string) {
		both := strings.Contains(string(content), "then") && strings.Contains(string(content), "fi\n")
		switch {
		case path == "rc.conf" && both:
			return "sh -n: line 9: bad", ""
		case path == "other":
			return "always bad", ""
		}
		return "", ""
	}
	b.write("base2/rc.conf", text(10, shut))
	b.write("base2/other", text(10, shut))
	b.o = b.overlay()
	b.populate()
	b.edit("rc.conf", text(10, open))
	b.edit("other", text(10, open))
	b.save()
	p := b.upgrade("/base2")
	if got := verdicts(p.Merge); got["rc.conf"] != merge.VerdictConflict ||
		got["other"] != merge.VerdictMerged {
		t.Errorf("%v", got)
	}
	cs := b.look().Conflicts()
	if len(cs) != 1 || cs[0].Why != "the merged text is rejected: sh -n: line 9: bad" || cs[0].Text == nil {
		t.Errorf("%+v", cs)
	}
	b.holds(map[string]string{
		"rc.conf": text(10, open),
		"other":   text(10, map[int]string{2: open[2], 9: shut[9]}),
	})
}

// A merge that cannot be written does not prevent a start: the overrides are laid over the new defaults as
// they are, the result says so, and the next start merges.
func TestUnmergedStart(t *testing.T) {
	b := newBox(t, map[string]string{"rc.conf": text(20, nil)})
	b.write("base2/rc.conf", text(20, map[int]string{10: "default\n"}))
	b.populate()
	b.edit("rc.conf", text(20, map[int]string{2: "mine\n"}))
	b.save()
	b.must(b.o.Clear(t.Context()))
	b.on = "/base2"
	b.o = b.overlay()
	b.o.Hook = func(op dirfd.Op) error {
		if strings.HasPrefix(op.Path, ".cfgd/tmp/") {
			return unix.EIO
		}
		return nil
	}
	p, err := b.o.Populate(t.Context(), "dir", "")
	if err != nil || p.Merge != nil || !errors.Is(p.Unmerged, unix.EIO) ||
		!slices.Equal(p.Hiding, []string{"rc.conf"}) {
		t.Fatalf("%+v, %v", p, err)
	}
	b.o.Hook = nil
	b.holds(map[string]string{"rc.conf": text(20, map[int]string{2: "mine\n"})})
	b.edit("other", "saved meanwhile\n")
	b.save()
	if v := b.look(); v.Unmerged() != "proto/etc@1" {
		t.Errorf("%q", v.Unmerged())
	}
	b.restart()
	b.holds(map[string]string{
		"rc.conf": text(20, map[int]string{2: "mine\n", 10: "default\n"}),
		"other":   "saved meanwhile\n",
	})
	if v := b.look(); v.Unmerged() != "" {
		t.Errorf("%q", v.Unmerged())
	}
}

// A start that is stopped while it merges lets cfg go.
func TestStoppedMergeLetsCfgGo(t *testing.T) {
	for _, at := range []string{".cfgd/tmp/", ".cfgd/manifest"} { // before the merge is saved, and after
		b := newBox(t, map[string]string{"rc.conf": text(20, nil)})
		b.write("base2/rc.conf", text(20, map[int]string{10: "default\n"}))
		b.populate()
		b.edit("rc.conf", text(20, map[int]string{2: "mine\n"}))
		b.save()
		b.must(b.o.Clear(t.Context()))
		b.on = "/base2"
		b.o = b.overlay()
		mounted := 0
		b.o.MountCfg = func(context.Context, bool) (func() error, error) {
			mounted++
			return func() error { mounted--; return nil }, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		b.o.Hook = func(op dirfd.Op) error {
			if strings.HasPrefix(op.Path, at) || op.To == at {
				cancel()
			}
			return nil
		}
		if _, err := b.o.Populate(ctx, "dir", ""); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", at, err)
		}
		if mounted != 0 {
			t.Errorf("%s: cfg is still mounted", at)
		}
	}
}

// Edits made after a merge are not lost when its conflict is resolved. The text to decide on has them, the
// taken side is the edited one, and the other choice leaves them in a generation.
func TestResolveKeepsLaterEdits(t *testing.T) {
	later := text(9, map[int]string{1: "later\n", 5: "mine\n"})
	for _, c := range []struct {
		how  Choice
		want string
	}{
		{Choice{Take: config.ConflictMine}, later},
		{Choice{Take: config.ConflictTheirs}, text(9, map[int]string{5: "theirs\n"})},
	} {
		b := newBox(t, map[string]string{"rc.conf": text(9, nil), "other": "o\n"})
		b.conflicted(config.ConflictMine)
		b.edit("rc.conf", later)
		marked, err := b.o.ConflictText(t.Context(), "rc.conf")
		if err != nil || !strings.HasPrefix(string(marked), "later\n") ||
			!strings.Contains(string(marked), "<<<<<<< saved\nmine\n||||||| ") ||
			strings.Count(string(marked), "<<<<<<<") != 1 {
			t.Errorf("%v\n%s", err, marked)
		}
		if _, err := b.o.Resolve(t.Context(), []string{"rc.conf"}, c.how); err != nil {
			t.Fatal(err)
		}
		b.holds(map[string]string{"rc.conf": c.want})
		all, err := b.o.History().Log(t.Context())
		b.must(err)
		e, content, err := b.o.History().Show(t.Context(), all[1].Generation, "rc.conf")
		if err != nil || e == nil || string(content) != later {
			t.Errorf("generation %d: %v, %q", all[1].Generation, err, content)
		}
		b.settled()
	}
}

// If one version of a conflict is lost, that stops nothing else.
func TestLostSideOfAConflict(t *testing.T) {
	b := newBox(t, map[string]string{"rc.conf": text(9, nil), "other": "o\n"})
	b.conflicted(config.ConflictMine)
	c := b.look().Conflicts()[0]
	b.must(os.Remove(b.path("jail/cfg/.cfgd/objects/" + c.Theirs.Digest.String() + ".gz")))
	b.must(os.Remove(b.path("base2/rc.conf")))
	b.o = b.overlay()
	if _, err := b.o.Pin(t.Context(), []string{"other"}, false); err != nil {
		t.Errorf("pin: %v", err)
	}
	if _, err := b.o.Resolve(t.Context(), []string{"rc.conf"},
		Choice{Take: config.ConflictTheirs}); err == nil ||
		!strings.Contains(err.Error(), "rc.conf") {
		t.Errorf("theirs: %v", err)
	}
	if _, err := b.o.Resolve(t.Context(), []string{"rc.conf"}, Choice{}); err != nil {
		t.Errorf("edited: %v", err)
	}
}

// fileTime returns the time of a file. The time of a directory changes with what is in it, so it is 0.
func fileTime(e *tree.Entry) int64 {
	if e.Kind == dirfd.KindFile {
		return e.MTime
	}
	return 0
}
