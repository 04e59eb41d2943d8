package root

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"cfgd/watcher/control"
)

// plain lays out a machine of plain directories with one jail, and populates that.
func plain(t *testing.T) *machine {
	// on a disk, if there is one: a commit takes longer there, so it is killed more often
	dir := t.TempDir()
	m := &machine{t, dir}
	m.write("etc/rc.conf", `jail_list="vhost1"
jail_vhost1_rootdir="/jail/vhost1"
jail_vhost1_hostname="vhost1.domain.local"
jail_vhost1_fstab="/etc/fstab.vhost1"
`)
	m.write("etc/fstab.vhost1", "/jail/proto/.cfgd/snapshot/1/etc /jail/vhost1/conf/base/etc nullfs ro 0 0\n")
	m.write("usr/local/etc/cfgd.toml",
		"[defaults]\nsettle = \"10ms\"\nmax_wait = \"100ms\"\nrescan = \"1s\"\n")
	for i := range 20 {
		m.write(fmt.Sprintf("jail/proto/.cfgd/snapshot/1/etc/dir%d/default", i%5), version(0))
		m.write(fmt.Sprintf("jail/proto/.cfgd/snapshot/1/etc/default%d", i), version(0))
	}
	m.must(os.MkdirAll(m.path("stage"), 0o755))
	m.run(0, "jail init vhost1")
	return m
}

// version returns the content of a file with a number. Its form shows whether the file is whole.
func version(n int) string {
	body := fmt.Sprintf("%d\n%s", n, strings.Repeat("x", n*7919%30_000))
	return fmt.Sprintf("%x\n%s", sha256.Sum256([]byte(body)), body)
}

// number returns the number in such a content; -1 if the content is torn.
func number(content string) int {
	sum, body, _ := strings.Cut(content, "\n")
	n := -1
	if fmt.Sprintf("%x", sha256.Sum256([]byte(body))) == sum {
		fmt.Sscan(body, &n)
	}
	return n
}

// editor edits live, and remembers when it made each edit.
type editor struct {
	m *machine

	mu    sync.Mutex // guards edits
	edits []edit
}

type edit struct {
	path string
	n    int
	at   time.Time
}

// names are the edited paths: defaults, new files, files in new directories.
func names(rnd *rand.Rand) string {
	switch i := rnd.IntN(10); rnd.IntN(3) {
	case 0:
		return fmt.Sprintf("default%d", i)
	case 1:
		return fmt.Sprintf("new%d/deep/file", i)
	default:
		return fmt.Sprintf("dir%d/file%d", i%5, i)
	}
}

// run replaces files by new ones, as editors do, in bursts until ctx ends. The files in live are always
// whole.
func (e *editor) run(ctx context.Context) {
	rnd := rand.New(rand.NewPCG(1, 1))
	for n := 1; ctx.Err() == nil; n++ {
		p := names(rnd)
		live := e.m.path("jail/vhost1/etc/" + p)
		stage := e.m.path("stage/file")
		if err := os.MkdirAll(filepath.Dir(live), 0o755); err != nil {
			e.m.Error(err)
			return
		}
		if err := os.WriteFile(stage, []byte(version(n)), 0o644); err != nil {
			e.m.Error(err)
			return
		}
		if err := os.Rename(stage, live); err != nil {
			e.m.Error(err)
			return
		}
		e.mu.Lock()
		e.edits = append(e.edits, edit{p, n, time.Now()})
		e.mu.Unlock()
		pause := time.Duration(rnd.IntN(3)) * time.Millisecond
		if n%15 == 0 { // long enough for the daemon to report that everything is saved
			pause = time.Duration(20+rnd.IntN(80)) * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// before returns the last numbers of all files that were edited before a time.
func (e *editor) before(at time.Time) map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := map[string]int{}
	for _, x := range e.edits {
		if x.at.Before(at) {
			out[x.path] = x.n
		}
	}
	return out
}

// The daemon is killed at random times while files are edited in bursts. After each kill, before anything
// repairs the store, every file in cfg is whole, and what the daemon called saved is there. The next start
// goes on from there, and reports no conflict.
//
// Two machines share the kills, because the test waits most of the time.
func TestKilledDaemon(t *testing.T) {
	t.Parallel()
	kills, bound := 300, 60*time.Second
	if testing.Short() {
		kills, bound = 40, 10*time.Second
	}
	const machines = 2
	for i := range uint64(machines) {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			killDaemon(t, 42+i, kills/machines, bound)
		})
	}
}

// killDaemon kills the daemon of one machine so many times, or until the time is over.
func killDaemon(t *testing.T, seed uint64, kills int, bound time.Duration) {
	m := plain(t)
	ctx, cancel := context.WithCancel(context.Background())
	e := &editor{m: m}
	var wg sync.WaitGroup
	wg.Go(func() { e.run(ctx) })
	start := time.Now()
	rnd := rand.New(rand.NewPCG(seed, seed))
	done, claims, halves := 0, 0, 0
	for done < kills && time.Since(start) < bound && !t.Failed() {
		asOf := m.killed(time.Duration(rnd.IntN(250))*time.Millisecond, done%8 == 4)
		done++
		if asOf != nil {
			claims++
		}
		if _, err := os.Lstat(m.path("jail/vhost1/cfg/.cfgd/journal")); err == nil {
			halves++
		}
		m.checkKilled(done, e, asOf)
	}
	cancel()
	wg.Wait()
	t.Logf("%d kills in %v: before %d the daemon had called something saved, %d were in the middle of a "+
		"commit; %d edits",
		done, time.Since(start).Round(time.Second), claims, halves, len(e.edits))
	if claims == 0 {
		t.Error("nothing was ever called saved: the test tests nothing")
	}
	m.recovers(e)
}

// killed runs the daemon for some time and kills it. It returns the time up to which the daemon reported
// everything saved. With claim, the run begins when the daemon has first reported this; on a busy machine it
// might not get so far otherwise.
func (m *machine) killed(after time.Duration, claim bool) (asOf *time.Time) {
	m.Helper()
	d := m.daemon()
	ctx, cancel := context.WithTimeout(context.Background(), patience+after)
	defer cancel()
	c := control.NewClient(m.path("/var/run/cfgd"))
	began := time.Now()
	for ctx.Err() == nil && time.Since(began) < after {
		list, err := c.Status(ctx, false)
		if claim && asOf == nil {
			began = time.Now()
		}
		for _, s := range list {
			if s.SavedAsOf != nil {
				asOf = s.SavedAsOf
			}
			if s.Conflicts+s.Pending > 0 {
				m.Errorf("after a kill: %+v", s)
			}
		}
		pause := time.Millisecond
		if err != nil {
			pause = 5 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	_ = d.ends(syscall.SIGKILL)
	if log := d.log.String(); strings.Contains(log, "panic") || strings.Contains(log, " ERR ") {
		m.Errorf("the daemon says\n%s", log)
	}
	return asOf
}

// checkKilled reads the plain tree as a stock tool would.
func (m *machine) checkKilled(round int, e *editor, asOf *time.Time) {
	m.Helper()
	found := map[string]int{}
	cfg := m.path("jail/vhost1/cfg")
	m.must(filepath.WalkDir(cfg, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == ".cfgd" {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		rel, _ := filepath.Rel(cfg, p)
		b, err := os.ReadFile(p)
		if found[rel] = number(string(b)); found[rel] < 0 {
			m.Errorf("round %d: %s is torn: %.80q", round, rel, b)
		}
		return err
	}))
	if asOf == nil {
		return
	}
	for p, n := range e.before(*asOf) {
		if found[p] < n {
			m.Errorf("round %d: all was saved as of %v, with edit %d of %s, and edit %d is in cfg", round,
				asOf.Format(time.RFC3339Nano), n, p, found[p])
		}
	}
}

// recovers starts the daemon a last time. Then cfg has what live has, and the next start populates the same.
func (m *machine) recovers(e *editor) {
	m.Helper()
	d := m.daemon()
	s := m.saved("vhost1")
	if s.Conflicts+s.Pending > 0 || s.Problem != "" {
		m.Errorf("%+v", s)
	}
	last := e.before(time.Now().Add(time.Hour))
	m.numbers("cfg", last)
	m.must(d.ends(syscall.SIGTERM))
	m.run(0, "jail cleanup vhost1")
	m.run(0, "jail init vhost1")
	m.numbers("etc", last)
}

func (m *machine) numbers(tree string, want map[string]int) {
	m.Helper()
	for p, n := range want {
		if got := number(m.read("jail/vhost1/" + tree + "/" + p)); got != n {
			m.Errorf("%s/%s holds edit %d, want %d", tree, p, got, n)
		}
	}
}
