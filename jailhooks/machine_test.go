package jailhooks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cfgd/config"
	"cfgd/internal/dirfd"
	"cfgd/internal/machinetest"
	"cfgd/internal/mount"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// machine is a system with simulated mounts: to mount puts the directory aside and an empty one in its
// place, to unmount does the reverse. So every identity changes as with real mounts, and no privilege is
// needed. It is the Runner, the table of mounts and the daemon of the hooks under test, and logs
// everything that they do to it.
type machine struct {
	*testing.T
	dir    string
	goos   string
	target *config.Target

	mu     sync.Mutex // guards log and clock; a hook's lock, which is a file's, keeps the rest apart
	mounts []*mounted
	mds    map[string]string // kind by name
	// what a device or dataset holds while it is not mounted: a directory, by the source's name
	holds map[string]string
	log   []string

	// before is asked before each command, after after it was done; an error is the command's.
	before, after func(c run.Cmd) error
	daemon        func(ctx context.Context, what string) error
	jails         func(c run.Cmd) error // what jls(8) says; nil is a jail that does not run
	hook          dirfd.Hook
	clock         time.Time
}

type mounted struct {
	mount.Mount
	aside  string // where the directory below it is
	hidden bool
	fstab  bool // by the jail's fstab: it stands in the table of mounts alone, and shows the directory itself
}

var base = map[string]string{
	"rc.conf": "hostname=\"proto\"\n", "hosts": "127.0.0.1 localhost\n", "issue": "welcome\n",
	"ssh/sshd_config": "Port 22\n",
}

func newMachine(t *testing.T, goos string, backing config.Backing) *machine {
	m := &machine{
		T:     t,
		dir:   machinetest.MemDir(t),
		goos:  goos,
		mds:   map[string]string{},
		holds: map[string]string{},
		clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
	for _, d := range []string{"jail/vhost1/etc", "cfg", "run"} {
		m.must(os.MkdirAll(m.path(d), 0o755))
	}
	for p, content := range base {
		m.write("base/"+p, content)
	}
	m.target = &config.Target{
		Name:   "vhost1",
		Root:   m.path("jail/vhost1"),
		Base:   m.path("base"),
		BaseID: "proto/etc@1",
		Cfg:    m.path("cfg"),
		Live:   m.path("jail/vhost1/etc"),
	}
	m.target.Memory, m.target.MemorySize, m.target.MaxFile = backing, 16<<20, 1<<20
	m.target.KeepGenerations, m.target.KeepBytes = 100, 16<<20
	var err error
	m.target.Classes, err = builtInClasses()
	m.must(err)
	return m
}

// builtInClasses are those of a machine without a configuration; the tests make thousands of machines.
var builtInClasses = sync.OnceValues(func() (*config.Classes, error) {
	dir, err := os.MkdirTemp("", "cfgd-test")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	model, err := config.Load(config.Options{Root: dir, Euid: -1})
	if err != nil {
		return nil, err
	}
	return model.Classes, nil
})

// byDescriptor skips what the hooks do on Linux alone, by /proc, where the tests run on another system.
func (m *machine) byDescriptor() {
	m.Helper()
	if _, err := os.Readlink("/proc/self/fd/0"); m.goos == "linux" && err != nil {
		m.Skipf("on Linux a directory is mounted on by its descriptor, in /proc, which is not to be had "+
			"here: %v", err)
	}
}

// hooks are those of a new process.
func (m *machine) hooks() *Hooks {
	o := overlay.New(&config.Model{}, m.target)
	o.RunDir, o.Hook = m.path("run"), m.hook
	return &Hooks{Target: m.target, Overlay: o, Run: m, Daemon: m, Mounted: m.Mounted, GOOS: m.goos,
		RescueDir: m.path("rescue"),
		Now:       m.now, mountpoint: m.mountpoint}
}

func (m *machine) now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clock = m.clock.Add(time.Second)
	return m.clock
}

func (m *machine) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *machine) path(p string) string { return filepath.Join(m.dir, p) }

func (m *machine) write(p, content string) {
	m.Helper()
	m.must(os.MkdirAll(filepath.Dir(m.path(p)), 0o755))
	m.must(os.WriteFile(m.path(p), []byte(content), 0o644))
}

func (m *machine) edit(p, content string) { m.Helper(); m.write("jail/vhost1/etc/"+p, content) }

func (m *machine) read(p string) string {
	b, err := os.ReadFile(m.path(p))
	if errors.Is(err, fs.ErrNotExist) {
		return "(absent)"
	}
	m.must(err)
	return string(b)
}

// live lists the files of the live tree and what is in them.
func (m *machine) live() map[string]string {
	out := map[string]string{}
	root := m.path("jail/vhost1/etc")
	m.must(filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		out[rel] = m.read("jail/vhost1/etc/" + rel)
		return nil
	}))
	return out
}

// init, cleanup: the hook, which must succeed.
func (m *machine) init() *Started {
	m.Helper()
	s, err := m.hooks().Init(m.Context())
	m.must(err)
	return s
}

func (m *machine) cleanup() *Stopped {
	m.Helper()
	s, err := m.hooks().Cleanup(m.Context())
	m.must(err)
	return s
}

// populated checks that live is what base and the edits make.
func (m *machine) populated(edits map[string]string) {
	m.Helper()
	want := maps.Clone(base)
	maps.Copy(want, edits)
	if got := m.live(); !maps.Equal(got, want) {
		m.Errorf("live is\n%q, want\n%q", got, want)
	}
	if r := m.record(); r == nil || r.State != overlay.Populated {
		m.Errorf("record %+v", r)
	}
}

// clean checks that nothing of a jail's start is left.
func (m *machine) clean() {
	m.Helper()
	if len(m.mounts)+len(m.mds) > 0 {
		m.Errorf("left: %d mounts, mds %v", len(m.mounts), m.mds)
	}
	if r := m.record(); r != nil {
		m.Errorf("left: record %+v", r)
	}
	if got := m.live(); len(got) > 0 {
		m.Errorf("left: %q", got)
	}
}

func (m *machine) record() *overlay.Record {
	m.Helper()
	r, err := m.hooks().Overlay.Record()
	m.must(err)
	return r
}

// said is the log as text, without the machine's own directory.
func (m *machine) said() string { return strings.Join(m.log, "\n") }

func (m *machine) note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), m.dir, "")
	m.log = append(m.log, strings.ReplaceAll(text, fmt.Sprintf("/proc/%d/fd/", os.Getpid()), "FD"))
}

func (m *machine) Attach(ctx context.Context, target string) error {
	return m.tell(ctx, "attach "+target)
}
func (m *machine) Detach(ctx context.Context, target string) error {
	return m.tell(ctx, "detach "+target)
}

func (m *machine) tell(ctx context.Context, what string) error {
	m.note("%s", what)
	if m.daemon == nil {
		return nil
	}
	return m.daemon(ctx, what)
}

func (m *machine) Mounted(dir string) ([]mount.Mount, error) {
	var out []mount.Mount
	for _, on := range m.mounts {
		if on.Dir == dir {
			out = append(out, on.Mount)
		}
	}
	return out, nil
}

func (m *machine) mountpoint() (bool, error) {
	return slices.ContainsFunc(m.mounts, func(on *mounted) bool {
		return on.Dir == m.target.Live && !on.hidden
	}), nil
}

// Run does what the command would.
func (m *machine) Run(_ context.Context, c run.Cmd) (string, error) {
	m.note("%s", c)
	if m.before != nil {
		if err := m.before(c); err != nil {
			return "", &run.Error{Cmd: c, Err: err}
		}
	}
	out, err := m.do(c)
	if err == nil && m.after != nil {
		err = m.after(c)
	}
	var said *run.Error
	if errors.As(err, &said) {
		return "", said
	}
	if err != nil {
		return "", &run.Error{Cmd: c, Err: err}
	}
	return out, nil
}

func (m *machine) do(c run.Cmd) (string, error) {
	last := c.Args[len(c.Args)-1]
	switch words := c.Name + " " + c.Args[0]; words {
	case "mdconfig -a":
		name := fmt.Sprintf("md%d", len(m.mds)+3)
		m.mds[name] = "swap"
		return name + "\n", nil
	case "mdconfig -l":
		if kind, ok := m.mds["md"+last]; ok {
			return "md" + last + "\t" + kind + "\t16M\t-\n", nil
		}
		return "", errors.New("exit status 255")
	case "mdconfig -d":
		return "", m.destroy("md" + last)
	case "newfs -i":
		m.holds[last] = m.path("content." + filepath.Base(last))
		return "", os.Mkdir(m.holds[last], 0o755)
	case "tunefs -n":
		return "", nil
	case "fstat -f":
		return fstatSays, nil
	case "jls -j":
		return m.jls(c)
	case "mount -o", "mount -t", "mount -c":
		return "", m.mount(c.Args[len(c.Args)-2], last)
	case "umount " + last:
		return "", m.unmount(last)
	}
	m.Errorf("%s: no such command", c)
	return "", errors.ErrUnsupported
}

func (m *machine) destroy(md string) error {
	if slices.ContainsFunc(m.mounts, func(on *mounted) bool { return on.Source == "/dev/"+md }) {
		return errors.New("device busy")
	}
	if _, ok := m.mds[md]; !ok {
		return errors.New("no such device")
	}
	delete(m.mds, md)
	rest := m.holds["/dev/"+md]
	delete(m.holds, "/dev/"+md)
	return os.RemoveAll(rest)
}

// fstatSays is what fstat(1) prints of a tree in which somebody stands.
const fstatSays = `USER     CMD          PID   FD MOUNT      INUM MODE         SZ|DV R/W
root     sleep        661    0 /jail/vhost1/etc     12 -rw-r--r--    1031  r
root     sleep        661   wd /jail/vhost1/etc      2 drwxr-xr-x     512  r
www      an odd name    9   wd /jail/vhost1/etc      2 drwxr-xr-x     512  r
`

func (m *machine) mount(source, dir string) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	on := &mounted{
		Mount: mount.Mount{Source: source, Dir: real, Type: "tmpfs"},
		aside: fmt.Sprintf("%s.below%d", real, len(m.mounts)),
	}
	if strings.HasPrefix(source, "/dev/") {
		on.Type = "ufs"
	}
	rest, known := m.holds[source]
	if used := slices.ContainsFunc(m.mounts, func(o *mounted) bool { return o.Source == source }); used &&
		on.Type == "ufs" {
		return errors.New("device busy")
	}
	m.mounts = append(m.mounts, on)
	if err := os.Rename(real, on.aside); err != nil || !known {
		return errors.Join(err, os.Mkdir(real, 0o755))
	}
	return os.Rename(rest, real)
}

// unmount takes the topmost mount of that source or directory, as umount(8) does.
func (m *machine) unmount(what string) error {
	// a descriptor of the directory below went along when that was put aside
	what, _, _ = strings.Cut(what, ".below")
	for i, on := range slices.Backward(m.mounts) {
		if on.Source != what && on.Dir != what {
			continue
		}
		above := func(o *mounted) bool { return strings.HasPrefix(o.Dir, on.Dir+"/") }
		if on.fstab && slices.ContainsFunc(m.mounts, above) {
			return unix.EBUSY
		}
		m.mounts = slices.Delete(m.mounts, i, i+1)
		if on.fstab {
			return nil
		}
		dir, aside := on.Dir, on.aside
		if on.hidden {
			dir, aside = m.below(dir), m.below(aside)
		}
		if rest, known := m.holds[on.Source]; known {
			return errors.Join(os.Rename(dir, rest), os.Rename(aside, dir))
		}
		return errors.Join(os.RemoveAll(dir), os.Rename(aside, dir))
	}
	return errors.New("not mounted")
}

// below is where a path of the jail is once cover has put it aside.
func (m *machine) below(p string) string {
	return strings.Replace(p, m.path("jail/vhost1"), m.path("jail/below"), 1)
}

// uncover unmounts the root that cover mounted; nothing may be mounted in it.
func (m *machine) uncover() {
	m.must(os.RemoveAll(m.path("jail/vhost1")))
	m.must(os.Rename(m.path("jail/below"), m.path("jail/vhost1")))
	for _, on := range m.mounts {
		on.hidden = false
	}
}

// cover mounts the jail's root once more, as the start after a failed one does.
func (m *machine) cover() {
	m.must(os.Rename(m.path("jail/vhost1"), m.path("jail/below")))
	m.must(os.MkdirAll(m.path("jail/vhost1/etc"), 0o755))
	for _, on := range m.mounts {
		on.hidden = true
	}
}
