package overlay

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/internal/machinetest"
	"cfgd/overlay/tree"
)

const killDir, killSeed = "CFGD_TEST_KILL_DIR", "CFGD_TEST_KILL_SEED"

// version returns the content of a file with its sequence number and a check that it is whole.
func version(rnd *rand.Rand, seq int) string {
	body := fmt.Sprintf("%d\n%s", seq, strings.Repeat("x", rnd.IntN(30_000)))
	return fmt.Sprintf("%x\n%s", sha256.Sum256([]byte(body)), body)
}

// sequence returns the sequence number of a version, 0 if it is torn.
func sequence(content string) int {
	sum, body, _ := strings.Cut(content, "\n")
	n := 0
	if fmt.Sprintf("%x", sha256.Sum256([]byte(body))) != sum {
		return 0
	}
	if _, err := fmt.Sscan(body, &n); err != nil {
		return 0
	}
	return n
}

// report is what the child writes before each save, and again after it.
type report struct {
	Saved      bool
	Generation int
	Files      map[string]int // sequence numbers of live's files other than defaults; -1 if a default is gone
}

// overridesOf lists the files of a tree that carry a sequence number. torn lists those that should and do
// not.
func overridesOf(dir string) (map[string]int, error) {
	files := map[string]int{}
	for p := range etc {
		files[p] = -1
	}
	err := filepath.WalkDir(dir, func(full string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() && d.Name() == tree.MetaName {
			if err == nil {
				err = fs.SkipDir
			}
			return err
		}
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(full)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, full)
		if delete(files, rel); string(b) == etc[rel] {
			return nil
		}
		files[rel] = sequence(string(b))
		return nil
	})
	return files, err
}

// TestKillChild is the process that is killed. It edits and saves until then.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(killDir)
	if dir == "" {
		t.Skip("runs as the child of TestKilledAnywhere")
	}
	var seed uint64
	fmt.Sscan(os.Getenv(killSeed), &seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	b := &box{files: files{t, dir}, now: time.Now()}
	b.o = b.overlay()
	b.restart()
	names := []string{
		"rc.conf",
		"hosts",
		"issue",
		"a",
		"b/c",
		"b/d",
		"deep/er/still/e",
		"local/nginx/nginx.conf",
		"ssh/sshd_config",
	}
	say := json.NewEncoder(os.Stdout)
	seq := int(seed) * 10_000
	for {
		for range 1 + rnd.IntN(6) {
			seq++
			switch name := names[rnd.IntN(len(names))]; rnd.IntN(6) {
			case 0:
				b.remove(name)
			case 1:
				if def, ok := etc[name]; ok {
					b.edit(name, def)
				}
			default:
				b.edit(name, version(rnd, seq))
			}
		}
		r := report{}
		var err error
		r.Files, err = overridesOf(b.path("jail/etc"))
		b.must(err)
		b.must(say.Encode(r))
		done, err := b.o.Save(context.Background(), SaveOptions{Force: true})
		b.must(err)
		r.Saved, r.Generation = true, done.Generation
		b.must(say.Encode(r))
	}
}

func TestKilledAnywhere(t *testing.T) {
	t.Parallel()
	b := newBoxIn(t, machinetest.MemDir(t), etc)
	b.populate()
	times := 100
	if testing.Short() {
		times = 20
	}
	rnd := rand.New(rand.NewPCG(42, 42))
	last := report{Saved: true, Files: map[string]int{}}
	finished, during := 0, 0
	for i := range times {
		tries := []report{last}
		for _, r := range b.killed(i+1, time.Duration(rnd.IntN(120))*time.Millisecond) {
			if r.Saved {
				tries, last = nil, r
				finished++
			}
			tries = append(tries, r)
		}
		during += len(tries) - 1
		b.checkKilled(i, &last, tries)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d saves finished, %d kills during one", finished, during)
	if finished == 0 || during == 0 {
		t.Error("no save finished, or none was interrupted: the test tests nothing")
	}
}

// killed runs the child, kills it after a while and returns its reports.
func (b *box) killed(seed int, after time.Duration) []report {
	cmd := exec.Command(os.Args[0], "-test.run", "^TestKillChild$")
	cmd.Env = append(os.Environ(), killDir+"="+b.dir, fmt.Sprintf("%s=%d", killSeed, seed))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	b.must(cmd.Start())
	timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != -1 {
		b.Fatalf("the child ended by itself: %v\n%s%s", err, out.String(), errs.String())
	}
	var said []report
	lines := bufio.NewScanner(&out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r report
		if json.Unmarshal(lines.Bytes(), &r) == nil { // the last line may be cut
			said = append(said, r)
		}
	}
	return said
}

// checkKilled checks the store against the last finished save and the saves that may have been in progress.
func (b *box) checkKilled(round int, last *report, tries []report) {
	b.Helper()
	plain, err := overridesOf(b.path("jail/cfg"))
	b.must(err)
	for p, seq := range plain {
		if seq == 0 {
			b.Errorf("round %d: before the reopening, %s is torn: %.100q", round, p, b.read("jail/cfg/"+p))
		}
	}
	b.o = b.overlay()
	v, err := b.o.Look(context.Background(), LookOptions{Lock: true})
	b.must(err)
	if v.Current.Generation < last.Generation {
		b.Errorf("round %d: generation %d, and %d was reported as saved", round, v.Current.Generation,
			last.Generation)
	}
	if len(v.Adopted) > 0 {
		b.Errorf("round %d: adopted %q", round, v.Adopted)
	}
	got := map[string]int{}
	for p := range etc {
		if !v.SavedTree().Has(p) {
			got[p] = -1
		}
	}
	for _, o := range v.Current.Overrides {
		if o.Kind == dirfd.KindFile {
			got[o.Path] = sequence(b.read("jail/cfg/" + o.Path))
		}
	}
	for _, r := range tries {
		if maps.Equal(got, r.Files) {
			*last = report{Saved: true, Generation: v.Current.Generation, Files: got}
			return
		}
	}
	b.Errorf("round %d: the saved tree is\n%v, and is neither of\n%+v", round, got, tries)
}
