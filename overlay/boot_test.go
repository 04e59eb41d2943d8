package overlay

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/machinetest"
)

// hostBox is a host whose /etc is made by rc.initdiskless.
type hostBox struct{ *box }

func newHostBox(t *testing.T) *hostBox {
	if _, err := exec.LookPath("cp"); err != nil {
		t.Skip("no cp here")
	}
	b := &hostBox{newBoxIn(t, machinetest.MemDir(t), etc)}
	b.write("base/rc.conf",
		"hostname=\"image\"\nsyslogd_flags=\"-s\"\n#\nntpd_enable=\"NO\"\n#\nsshd_enable=\"NO\"\n")
	b.boot()
	b.adopt()
	return b
}

func (b *hostBox) overlay() *Overlay {
	o := b.box.overlay()
	o.Target.Name, o.Target.Root, o.Target.BaseID = config.HostName, "/", ""
	return o
}

// boot starts the machine: memory is empty, then the defaults are copied, then all of cfg.
func (b *hostBox) boot() {
	b.Helper()
	b.must(os.RemoveAll(b.path("run")))
	b.must(os.RemoveAll(b.path("jail/etc")))
	b.must(os.Mkdir(b.path("jail/etc"), 0o755))
	for _, from := range []string{"base", "jail/cfg"} {
		if out, err := exec.Command("cp", "-Rp", b.path(from)+"/.",
			b.path("jail/etc")).CombinedOutput(); err != nil {
			b.Fatalf("cp: %v: %s", err, out)
		}
	}
	b.o = b.overlay()
}

func (b *hostBox) adopt() *Adoption {
	b.Helper()
	t, err := b.o.AdoptLive(context.Background())
	b.must(err)
	return t
}

func (b *hostBox) unsaved() string {
	b.Helper()
	v, err := b.overlay().Look(context.Background(), LookOptions{})
	b.must(err)
	if v.NotPopulated != nil {
		b.Fatal(v.NotPopulated)
	}
	return paths(v.Unsaved)
}

// editedHost returns a host with an override, a removal and a file of its own, all saved.
func editedHost(t *testing.T) *hostBox {
	b := newHostBox(t)
	b.edit("rc.conf", strings.Replace(b.read("base/rc.conf"), `sshd_enable="NO"`, `sshd_enable="YES"`, 1))
	b.edit("own", "own\n")
	b.remove("issue")
	b.remove("local/nginx")
	b.save()
	return b
}

func (b *hostBox) save() {
	b.Helper()
	_, err := b.o.Save(context.Background(), SaveOptions{})
	b.must(err)
}

func TestBootAppliesRemovals(t *testing.T) {
	t.Parallel()
	b := editedHost(t)
	before := b.shape("jail/etc")
	b.boot()
	if b.read("jail/etc/issue") != "welcome\n" {
		t.Fatal("the start knows of removals: this tests nothing")
	}
	taken := b.adopt()
	if !taken.Copy || taken.Merge != nil || taken.Unmerged != nil ||
		paths(taken.Changes) != "D issue, D local/nginx, D local/nginx/mime.types, D local/nginx/nginx.conf" {
		t.Errorf("%+v, %s", taken, paths(taken.Changes))
	}
	b.same(before, b.shape("jail/etc"))
	if got := b.unsaved(); got != "" {
		t.Errorf("unsaved: %s", got)
	}
	if taken := b.adopt(); !taken.Already {
		t.Errorf("once more: %+v", taken)
	}
	b.boot()
	b.adopt()
	b.same(before, b.shape("jail/etc"))
}

// Another image is merged with at its first start. The image before it gets its own overrides back, together
// with what was changed since.
func TestBootMerges(t *testing.T) {
	t.Parallel()
	b := editedHost(t)
	first := b.read("base/rc.conf")
	b.write("base/rc.conf", strings.Replace(first, `syslogd_flags="-s"`, `syslogd_flags="-ss"`, 1))
	b.write("base/hosts", "127.0.0.1 localhost new\n")
	b.boot()
	taken := b.adopt()
	if taken.Merge == nil || taken.Merge.Conflicts() > 0 {
		t.Fatalf("%+v", taken)
	}
	want := "hostname=\"image\"\nsyslogd_flags=\"-ss\"\n#\nntpd_enable=\"NO\"\n#\nsshd_enable=\"YES\"\n"
	if got := b.read("jail/etc/rc.conf"); got != want || b.read("jail/cfg/rc.conf") != want {
		t.Errorf("merged: %s", got)
	}
	if b.read("jail/etc/hosts") != "127.0.0.1 localhost new\n" || b.read("jail/etc/issue") != "(absent)" ||
		b.read("jail/etc/own") != "own\n" ||
		b.unsaved() != "" {
		t.Errorf("unsaved: %s", b.unsaved())
	}
	b.edit("rc.conf", strings.Replace(want, `ntpd_enable="NO"`, `ntpd_enable="YES"`, 1))
	b.save()
	b.write("base/rc.conf", first)
	b.write("base/hosts", "127.0.0.1 localhost\n")
	b.boot()
	if taken := b.adopt(); taken.Merge == nil || taken.Merge.RevertsTo == 0 {
		t.Errorf("back: %+v", taken)
	}
	want = "hostname=\"image\"\nsyslogd_flags=\"-s\"\n#\nntpd_enable=\"YES\"\n#\nsshd_enable=\"YES\"\n"
	if got := b.read("jail/etc/rc.conf"); got != want || b.unsaved() != "" ||
		b.read("jail/etc/issue") != "(absent)" {
		t.Errorf("back: %s, unsaved %s", got, b.unsaved())
	}
}

// An edit made between the start and the adoption stays.
func TestBootSparesEdits(t *testing.T) {
	t.Parallel()
	b := editedHost(t)
	for _, p := range []string{"a", "b", "c"} {
		b.edit(p, p)
	}
	b.save()
	b.write("base/rc.conf", b.read("base/rc.conf")+"new=1\n")
	b.boot()
	b.edit("rc.conf", "mine=1\n")
	b.edit("issue", "mine\n")
	b.edit("own", "own, edited\n")
	b.adopt()
	for p, want := range map[string]string{"rc.conf": "mine=1\n", "issue": "mine\n", "own": "own, edited\n",
		"local/nginx/nginx.conf": "(absent)", ".cfgd/manifest": "(absent)"} {
		if got := b.read("jail/etc/" + p); got != want {
			t.Errorf("%s: %q", p, got)
		}
	}
	if got := b.unsaved(); got != "A issue, M own, M rc.conf" {
		t.Errorf("unsaved: %s", got)
	}
}

func TestBootOnADamagedStore(t *testing.T) {
	t.Parallel()
	b := editedHost(t)
	b.write("jail/cfg/.cfgd/manifest", "{\"format\":1,\"gen")
	b.boot()
	before := b.shape("jail/etc")
	if taken := b.adopt(); len(taken.Damaged) == 0 || taken.Copy || len(taken.Changes) > 0 {
		t.Errorf("%+v", taken)
	}
	b.same(before, b.shape("jail/etc"))
}

// If an adoption is cut short anywhere, by an error or a crash, the next one completes it.
func TestBootCutShort(t *testing.T) {
	t.Parallel()
	b := editedHost(t)
	b.write(
		"base/rc.conf",
		strings.Replace(b.read("base/rc.conf"), `syslogd_flags="-s"`, `syslogd_flags="-ss"`, 1),
	)
	saved := b.path("saved")
	if out, err := exec.Command("cp", "-Rp", b.path("jail/cfg"), saved).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	var want map[string]string
	for n := 0; ; n++ {
		b.must(os.RemoveAll(b.path("jail/cfg")))
		if out, err := exec.Command("cp", "-Rp", saved, b.path("jail/cfg")).CombinedOutput(); err != nil {
			t.Fatalf("cp: %v: %s", err, out)
		}
		b.boot()
		ops := 0
		b.o.Hook = func(dirfd.Op) error {
			if ops++; ops > n {
				return errors.New("cut short")
			}
			return nil
		}
		_, err := b.o.AdoptLive(context.Background())
		b.o = b.overlay()
		b.adopt()
		got := b.shape("jail/etc")
		for p, words := range got { // these times are those of the merge
			_, content, _ := strings.Cut(words, "Z")
			got[p] = words[:6] + content
		}
		if ops <= n {
			b.must(err)
			if n < 10 {
				t.Errorf("only %d changes of the trees", n)
			}
			b.same(want, got)
			return
		}
		if want == nil {
			want = got
		}
		if b.same(want, got); t.Failed() || b.unsaved() != "" || got[".cfgd"] != "" {
			t.Fatalf("cut short after %d: unsaved %s", n, b.unsaved())
		}
		b.must(os.RemoveAll(filepath.Join(b.dir, "run")))
	}
}
