package overlay

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
	"cfgd/merge"
	"cfgd/overlay/store"
	"cfgd/overlay/tree"
)

// newRelease makes base2 from base by random edits.
func (m *machine) newRelease(edits map[string]func(*rapid.T), n int) {
	m.populate()
	m.random(edits, n)
	if out, err := exec.Command("cp", "-a", m.path("jail/etc"),
		m.path("base2")).CombinedOutput(); err != nil {
		m.Fatal(string(out))
	}
	m.restart(m.rt)
}

func (m *machine) random(edits map[string]func(*rapid.T), n int) {
	for range n {
		edits[rapid.SampledFrom(slices.Sorted(maps.Keys(edits))).Draw(m.rt, "edit")](m.rt)
	}
}

// Whatever the release and the edits are: what is planned happens; afterwards nothing is unsaved, and what
// was released is the default; the way back restores cfg to the byte.
func TestRandomUpgrades(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("/dev/shm", "cfgd-rapid")
		if err != nil {
			dir, err = os.MkdirTemp("", "cfgd-rapid")
		}
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &machine{box: newBoxIn(rapidTB{t, rt}, dir, etc), rt: rt}
		edits := map[string]func(*rapid.T){
			"create":      m.create,
			"write":       m.write,
			"write lines": m.writeLines,
			"remove":      m.remove,
			"mkdir":       m.mkdir,
			"rename":      m.rename,
			"symlink":     m.symlink,
			"chmod":       m.chmod,
		}
		m.newRelease(edits, rapid.IntRange(0, 12).Draw(rt, "changes of the release"))
		m.random(edits, rapid.IntRange(1, 12).Draw(rt, "edits"))
		if _, err := m.o.Save(rt.Context(), SaveOptions{Force: true}); err != nil {
			rt.Fatal(err)
		}
		m.upgradeAsPlanned(
			rapid.SampledFrom([]config.OnConflict{config.ConflictMine, config.ConflictTheirs}).
				Draw(rt, "policy"),
		)
	})
}

// writeLines changes a line of a text, so that both sides meet in one file.
func (m *machine) writeLines(*rapid.T) {
	n := rapid.IntRange(1, 12).Draw(m.rt, "line")
	name := rapid.SampledFrom([]string{"rc.conf", "hosts"}).Draw(m.rt, "text")
	full := m.path("jail/etc/" + name)
	if m.clearWay(full) {
		m.must(
			os.WriteFile(
				full,
				[]byte(
					text(
						12,
						map[int]string{n: fmt.Sprintf("changed %d\n", rapid.IntRange(0, 3).Draw(m.rt, "to"))},
					),
				),
				0o644,
			),
		)
	}
}

func (m *machine) upgradeAsPlanned(policy config.OnConflict) {
	before := m.tree("jail/cfg")
	plan, err := m.o.PlanMerge(m.Context(), BaseRef{"/base2", "proto/etc@2"})
	m.must(err)
	m.policy = policy
	p := m.upgrade("/base2")
	if p.Merge == nil {
		if len(plan.Outcomes) > 0 {
			m.Errorf("planned %v, and nothing was merged", verdicts(plan))
		}
		return
	}
	if planned, done := fmt.Sprint(verdicts(plan)), fmt.Sprint(verdicts(p.Merge)); planned != done {
		m.Errorf("planned %s, done %s", planned, done)
	}
	v := m.look()
	for _, u := range p.Merge.Outcomes {
		if u.Verdict != merge.VerdictEqual || u.Override != nil {
			continue
		}
		b, _ := v.Base.Tree.Get(u.Path)
		l, _ := v.Live.Get(u.Path)
		if store.Differ(b, l, false) {
			m.Errorf("%q was released and is not the default", u.Path)
		}
	}
	m.upgrade("")
	if after := m.tree("jail/cfg"); after != before {
		m.Errorf("there and back: %s\n%v\n%v", lineDiff(before, after), p.Merge.Outcomes,
			m.look().Current.Message)
	}
}

// After an upgrade, edits and a downgrade: what was not edited is as before, and where the two bases are
// equal, what was edited is as it was edited. What was edited to equal the newer default has no override any
// more, so the older default is back.
func TestRandomDowngrades(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp("/dev/shm", "cfgd-rapid")
		if err != nil {
			dir, err = os.MkdirTemp("", "cfgd-rapid")
		}
		if err != nil {
			rt.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &machine{box: newBoxIn(rapidTB{t, rt}, dir, etc), rt: rt}
		edits := map[string]func(*rapid.T){
			"create":      m.create,
			"write":       m.write,
			"write lines": m.writeLines,
			"remove":      m.remove,
			"symlink":     m.symlink,
			"chmod":       m.chmod,
		}
		m.newRelease(edits, rapid.IntRange(0, 8).Draw(rt, "changes of the release"))
		m.random(edits, rapid.IntRange(1, 8).Draw(rt, "edits"))
		first := m.stopped()
		m.upgrade("/base2")
		upgraded := m.look()
		m.random(edits, rapid.IntRange(0, 6).Draw(rt, "later edits"))
		edited := m.stopped()
		m.upgrade("")
		m.compareFour(first, upgraded.Live, edited, m.look().Live, upgraded.Base.Tree)
	})
}

// stopped saves everything and returns the live tree of that moment.
func (m *machine) stopped() *tree.Tree {
	if _, err := m.o.Save(m.Context(), SaveOptions{Force: true}); err != nil {
		m.Fatal(err)
	}
	return m.look().Live
}

func (m *machine) compareFour(first, upgraded, edited, last, newer *tree.Tree) {
	older := m.look().Base.Tree
	all := map[string]bool{}
	for _, t := range []*tree.Tree{first, upgraded, edited, last} {
		for i := range t.Entries {
			all[t.Entries[i].Path] = true
		}
	}
	clash := func(p string) bool { // directories came and went around it
		for ; p != ""; p = pathname.Parent(p) {
			a, _ := first.Get(p)
			for _, t := range []*tree.Tree{upgraded, edited, last} {
				b, _ := t.Get(p)
				if (a == nil) != (b == nil) || a != nil && a.Kind != b.Kind {
					return true
				}
			}
		}
		return false
	}
	for p := range all {
		a, _ := first.Get(p)
		b, _ := upgraded.Get(p)
		c, _ := edited.Get(p)
		d, _ := last.Get(p)
		if clash(p) {
			continue
		}
		if !store.Differ(b, c, false) && store.Differ(a, d, false) {
			m.Errorf("%q was not edited and is not as it was: %+v, %+v", p, a, d)
		}
		want := c
		if n, _ := newer.Get(p); store.Differ(b, c, false) && !store.Differ(n, c, false) {
			if want, _ = older.Get(p); c != nil && c.Kind == dirfd.KindDir {
				continue // it stays because of what is below it
			}
		}
		if !store.Differ(a, b, false) && store.Differ(want, d, false) {
			m.Errorf("%q was edited, and the edit is not there: %+v, %+v", p, want, d)
		}
	}
}
