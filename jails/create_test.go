package jails

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/internal/machinetest"
	"cfgd/internal/mount"
	"cfgd/internal/run"
)

func (y *yard) spec() *Spec {
	return &Spec{Name: "web", Hostname: "web.example.org", IP: "192.168.0.12", Interface: "igb0",
		Mark: config.ZFSMark, Snapshot: "2", Dataset: "zpool/proto",
		Prototype: &config.Prototype{Name: "proto", Root: "/jail/proto"}}
}

// zpool is a zfs(8) that knows which datasets there are.
type zpool struct {
	there []string
	log   []string
	fail  string
}

func (z *zpool) Run(_ context.Context, c run.Cmd) (string, error) {
	z.log = append(z.log, c.String())
	last := c.Args[len(c.Args)-1]
	switch {
	case z.fail != "" && strings.Contains(c.String(), z.fail):
		return "", errors.New("failed")
	case c.Args[0] == "create", c.Args[0] == "clone":
		z.there = append(z.there, last)
	case c.Args[0] == "snapshot":
		z.there = append(z.there, c.Args[1:]...)
	case c.Args[0] == "destroy":
		z.there = slices.DeleteFunc(z.there, func(d string) bool { return d == last })
	case c.Args[0] == "list" && c.Args[1] == "-Hr":
		below := slices.DeleteFunc(slices.Clone(z.there), func(d string) bool {
			return d != last && !strings.HasPrefix(d, last+"/") && !strings.HasPrefix(d, last+"@")
		})
		return strings.Join(below, "\n") + "\n", nil
	case c.Args[0] == "list" && slices.Contains(c.Args, "-t"):
		var listed []string
		for _, d := range z.there { // what has a snapshot is there, too
			dataset, _, snapshot := strings.Cut(d, "@")
			if !slices.Contains(c.Args, "snapshot") {
				listed = append(listed, dataset)
			} else if snapshot && dataset == last {
				listed = append(listed, d)
			}
		}
		return strings.Join(listed, "\n") + "\n", nil
	case !slices.Contains(z.there, last):
		return "", errors.New("dataset does not exist")
	}
	return "", nil
}

// changes are the commands that change anything.
func (z *zpool) changes() (log []string) {
	for _, l := range z.log {
		if !strings.HasPrefix(l, "zfs list ") {
			log = append(log, l)
		}
	}
	return log
}

func (y *yard) creator(z *zpool) *Creator {
	m, err := y.Load()
	y.Must(err)
	return &Creator{
		Model:    m,
		Run:      z,
		Reload:   y.Load,
		SaveHost: func(_ context.Context, p string) error { return y.did("save " + p) },
	}
}

// state is everything that a creation may change.
func (y *yard) state() string {
	return y.Read("etc/rc.conf") + strings.Join(y.names("etc"), " ") + strings.Join(y.names("jail"), " ") +
		strings.Join(y.names("var/db/cfgd/jails"), " ")
}

func (y *yard) names(dir string) (names []string) {
	list, _ := os.ReadDir(y.Path(dir))
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

func TestCreateAndDestroy(t *testing.T) {
	t.Parallel()
	y, z := newYard(t), &zpool{}
	before := y.state()
	c, err := y.spec().Plan(time.Now())
	y.Must(err)
	want := []string{"zfs create -o mountpoint=legacy zpool/web",
		"zfs create -o mountpoint=legacy zpool/web/cfg", "zfs create -o mountpoint=legacy zpool/web/var",
		"zfs create -o mountpoint=legacy zpool/web/home", "mkdir /jail/web", "write /etc/fstab.web",
		"append to /etc/rc.conf"}
	if got := c.Lines(); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	_, err = y.creator(z).Create(t.Context(), c)
	y.Must(err)
	if !slices.Equal(z.changes(), want[:4]) ||
		!slices.Equal(y.log, []string{"save fstab.web", "save rc.conf"}) {
		t.Errorf("%q, %q", z.log, y.log)
	}
	m, err := y.Load()
	y.Must(err)
	web := m.Target("web")
	if web == nil || web.BaseID != "proto/etc@2" ||
		slices.ContainsFunc(m.Problems, func(p conffile.Problem) bool {
			return p.Target == "web"
		}) || m.Target("vhost1") == nil ||
		!slices.Equal(web.Poststop, []string{"/usr/local/sbin/cfgd jail cleanup web"}) {
		t.Fatalf("%+v, %v", web, m.Problems)
	}
	if _, err := y.creator(z).Create(t.Context(), c); !errors.Is(err, ErrExists) {
		t.Error(err)
	}

	// After a switch it is still the jail that was made; after an edit it is not.
	m, err = y.Load()
	y.Must(err)
	s, err := m.SwitchTo(m.Target("web"), "1")
	y.Must(err)
	y.Write("etc/fstab.web", string(s.Edits[0].New)+"zpool/web/extra /jail/web/extra zfs rw 0 0\n")
	if err := y.creator(z).Destroy(t.Context(), c, false); !errors.Is(err, ErrAdded) {
		t.Error(err)
	}
	y.Write("etc/fstab.web", string(s.Edits[0].New))
	z.there = append(z.there, "zpool/web/home@daily")
	if err := y.creator(z).Destroy(t.Context(), c, false); !errors.Is(err, ErrAdded) ||
		!strings.Contains(err.Error(), "zpool/web/home@daily") {
		t.Error(err)
	}
	z.there = z.there[:4]
	again, err := y.creator(z).Created("web")
	y.Must(err)
	z.log = nil
	y.Must(y.creator(z).Destroy(t.Context(), again, false))
	if got := y.state(); got != before || len(z.there) > 0 {
		t.Errorf("left: %q\n%s\nwas\n%s", z.there, got, before)
	}
	if _, err := y.creator(z).Created("vhost1"); err == nil ||
		!strings.Contains(err.Error(), "was not made by cfgd") {
		t.Error(err)
	}
}

func TestCreateFails(t *testing.T) {
	t.Parallel()
	for _, fail := range []string{"create -o mountpoint=legacy zpool/web/var", "save rc.conf"} {
		y, z := newYard(t), &zpool{fail: fail}
		before := y.state()
		c, err := y.spec().Plan(time.Now())
		y.Must(err)
		if fail == "save rc.conf" {
			y.fail[fail] = errors.New("failed")
		}
		if _, err := y.creator(z).Create(t.Context(), c); err == nil {
			t.Error("created all the same")
		}
		if fail == "save rc.conf" { // it cannot be saved that it is undone either
			y.Must(os.Remove(y.Path("var/db/cfgd/jails/web.json")))
		}
		if got := y.state(); got != before || len(z.there) > 0 {
			t.Errorf("%s: left %q\n%s", fail, z.there, got)
		}
	}
}

func TestCreateRefusesNames(t *testing.T) {
	t.Parallel()
	for _, change := range []func(*Spec){
		func(s *Spec) { s.Name = "a b" }, func(s *Spec) { s.Name = "x$(reboot)" },
		func(s *Spec) { s.Name = "../x" }, func(s *Spec) { s.Name = "host" }, func(s *Spec) { s.Name = "" },
		func(s *Spec) { s.Hostname = "a\"; reboot; \"" }, func(s *Spec) { s.IP = "1.2.3" },
		func(s *Spec) { s.Interface = "igb0 ; x" },
	} {
		s := newYard(t).spec()
		change(s)
		if _, err := s.Plan(time.Now()); err == nil {
			t.Errorf("%+v was taken", s)
		}
	}
}

// What exists already is not made, and so not undone either.
func TestCreateSparesWhatIsThere(t *testing.T) {
	t.Parallel()
	for _, there := range []string{"zpool/web", "zpool/web/home"} {
		y, z := newYard(t), &zpool{there: []string{there}}
		before := y.state()
		c, err := y.spec().Plan(time.Now())
		y.Must(err)
		if _, err := y.creator(z).Create(t.Context(), c); !errors.Is(err, ErrExists) ||
			!strings.Contains(err.Error(), there) {
			t.Error(err)
		}
		if got := y.state(); got != before || !slices.Equal(z.there, []string{there}) {
			t.Errorf("left %q\n%s", z.there, got)
		}
	}
	// Somebody else made it between the check and the command.
	y, z := newYard(t), &zpool{}
	z.fail = "create -o mountpoint=legacy zpool/web/var"
	c, err := y.spec().Plan(time.Now())
	y.Must(err)
	k := y.creator(z)
	k.Run = machinetest.Runner(func(ctx context.Context, cmd run.Cmd) (string, error) {
		if strings.HasSuffix(cmd.String(), "create -o mountpoint=legacy zpool/web/var") {
			z.there = append(z.there, "zpool/web/var")
		}
		return z.Run(ctx, cmd)
	})
	if _, err := k.Create(t.Context(), c); err == nil || !slices.Equal(z.there, []string{"zpool/web/var"}) {
		t.Errorf("%v, left %q", err, z.there)
	}
}

// If jails are defined in jail.conf, a jail gets a file of its own, and a line in jail_list if that is
// used.
func TestCreateInJailConf(t *testing.T) {
	t.Parallel()
	for _, listed := range []bool{false, true} {
		y, z := newYard(t), &zpool{}
		y.Must(os.Mkdir(y.Path("etc/jail.conf.d"), 0o755))
		y.Write("etc/jail.conf", ".include \"/etc/jail.conf.d/*.conf\";\n")
		before := y.state()
		s := y.spec()
		s.Form, s.Listed = config.FormJailConf, listed
		s.Hostname = "web.example.org"
		c, err := s.Plan(time.Now())
		y.Must(err)
		problems, err := y.creator(z).Create(t.Context(), c)
		y.Must(err)
		m, err := y.Load()
		y.Must(err)
		web := m.Target("web")
		if web == nil || web.Definition.Form != config.FormJailConf ||
			!slices.Equal(web.Prestart, []string{"/usr/local/sbin/cfgd jail init web"}) ||
			listed && len(problems) > 0 {
			t.Fatalf("%+v, %v", web, problems)
		}
		clears := func(p config.Param) bool {
			return p.Name == "exec.prepare" &&
				slices.Equal(p.Values, []string{"/usr/local/sbin/cfgd jail cleanup web"})
		}
		if !slices.ContainsFunc(web.Definition.Params, clears) {
			t.Errorf("nothing clears what a failed start leaves: %+v", web.Definition.Params)
		}
		if slices.Contains(m.JailList, "web") != listed {
			t.Errorf("jail_list %q", m.JailList)
		}
		y.Must(y.creator(z).Destroy(t.Context(), c, false))
		if got := y.state(); got != before || len(z.there) > 0 {
			t.Errorf("left: %q\n%s\nwas\n%s", z.there, got, before)
		}
	}
}

// A prototype is two filesystems of which snapshots are taken, and those beside them; its jail has no hooks.
func TestCreatePrototype(t *testing.T) {
	t.Parallel()
	y, z := newYard(t), &zpool{}
	before := y.state()
	s := &Spec{Name: "proto8", Hostname: "proto8", IP: "192.168.0.10", Dataset: "zpool/proto8", Listed: true}
	c, err := s.PlanPrototype(config.DefaultFile, time.Now())
	y.Must(err)
	want := []string{"zfs create -o mountpoint=/jail/proto8 zpool/proto8", "zfs create zpool/proto8/etc",
		"zfs create -o mountpoint=/jail/proto8/var zpool/proto8_var",
		"zfs create -o mountpoint=/jail/proto8/usr/src zpool/proto8_src",
		"zfs create -o mountpoint=/jail/proto8/usr/ports zpool/proto8_ports",
		"zfs create -o mountpoint=/jail/proto8/usr/obj zpool/proto8_obj"}
	if got := c.Lines()[:6]; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	_, err = y.creator(z).Create(t.Context(), c)
	y.Must(err)
	m, err := y.Load()
	y.Must(err)
	if i := slices.IndexFunc(m.Prototypes, func(p *config.Prototype) bool {
		return p.Name == "proto8"
	}); i < 0 || m.Prototypes[i].Dataset != "zpool/proto8" || m.Prototypes[i].Root != "/jail/proto8" {
		t.Fatalf("%+v", m.Prototypes)
	}
	if i := slices.IndexFunc(m.Jails, func(j *config.Jail) bool { return j.Name == "proto8" }); i < 0 ||
		len(m.Jails[i].Prestart) > 0 {
		t.Errorf("%+v", m.Jails)
	}
	fstab := y.Read("etc/fstab.vhost1")
	y.Write("etc/fstab.vhost1", strings.ReplaceAll(fstab, "/jail/proto/", "/jail/proto8/"))
	if err := y.creator(z).Destroy(t.Context(), c, true); err == nil ||
		!strings.Contains(err.Error(), "destroy jail vhost1 first") {
		t.Errorf("in use: %v", err)
	}
	y.Write("etc/fstab.vhost1", fstab)
	y.Must(y.creator(z).Destroy(t.Context(), c, false))
	if got := y.state(); got != before || len(z.there) > 0 {
		t.Errorf("left: %q\n%s\nwas\n%s", z.there, got, before)
	}
	for _, bad := range []string{"zpool", "zpool/../x", "-r/x", "zpool/a b", "zpool/x@1", "/zpool/x"} {
		s.Dataset = bad
		if _, err := s.PlanPrototype(config.DefaultFile, time.Now()); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// Whatever was added to a prototype in its directories keeps all of it, and its lines. --force removes
// all of it.
func TestDestroyPrototypeInDirectories(t *testing.T) {
	t.Parallel()
	for _, added := range []string{
		"bin/sh", "etc/rc.conf", "conf/default/etc/x", ".cfgd/snapshot/1/etc/rc.conf", "var/db/x", "",
	} {
		y, z := newYard(t), &zpool{}
		before := y.state()
		s := &Spec{Name: "proto8", Hostname: "proto8", IP: "192.168.0.10", Listed: true}
		c, err := s.PlanPrototype(config.DefaultFile, time.Now())
		y.Must(err)
		_, err = y.creator(z).Create(t.Context(), c)
		y.Must(err)
		if added != "" {
			y.Write("jail/proto8/"+added, "x")
			full := y.state()
			err := y.creator(z).Destroy(t.Context(), c, false)
			if !errors.Is(err, ErrAdded) || !strings.Contains(err.Error(), "/jail/proto8/") ||
				y.state() != full {
				t.Errorf("%s: %v", added, err)
			}
		}
		y.Must(y.creator(z).Destroy(t.Context(), c, added != ""))
		if got := y.state(); got != before {
			t.Errorf("%s left: %s\nwas\n%s", added, got, before)
		}
	}
}

// A failed destroy is continued: what it removed itself does not count as somebody's edit.
func TestDestroyGoesOn(t *testing.T) {
	t.Parallel()
	for _, fail := range []string{"zfs destroy zpool/web/cfg", "zfs destroy zpool/web", "save rc.conf"} {
		y, z := newYard(t), &zpool{}
		before := y.state()
		c, err := y.spec().Plan(time.Now())
		y.Must(err)
		_, err = y.creator(z).Create(t.Context(), c)
		y.Must(err)
		z.fail = fail
		if fail == "save rc.conf" {
			y.fail[fail] = errors.New("failed")
		}
		if err := y.creator(z).Destroy(t.Context(), c, false); err == nil {
			t.Fatalf("%s: destroyed all the same", fail)
		}
		z.fail = ""
		clear(y.fail)
		left, err := y.creator(z).Created("web")
		y.Must(err)
		y.Must(y.creator(z).Destroy(t.Context(), left, false))
		if got := y.state(); got != before || len(z.there) > 0 {
			t.Errorf("%s: left %q\n%s", fail, z.there, got)
		}
	}
}

// If zfs(8) cannot report what exists, nothing is made, nothing is undone that was not seen, and the
// record is kept: the next destroy finds everything that is left.
func TestZFSThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	y, z := newYard(t), &zpool{}
	c, err := y.spec().Plan(time.Now())
	y.Must(err)
	for _, fail := range []string{"zfs list", "filesystem,volume"} {
		z.fail = fail
		if _, err := y.creator(z).Create(t.Context(), c); err == nil || len(z.changes()) > 0 {
			t.Errorf("%s: %v, %q", fail, err, z.changes())
		}
	}
	z.fail = ""
	_, err = y.creator(z).Create(t.Context(), c)
	y.Must(err)
	there := slices.Clone(z.there)
	for _, fail := range []string{"filesystem,volume", "zfs destroy -r zpool/web/cfg"} {
		z.fail = fail
		if err := y.creator(z).Destroy(t.Context(), c, true); err == nil || len(z.there) == 0 {
			t.Errorf("%s: %v, there %q, before %q", fail, err, z.there, there)
		}
		if _, err := y.creator(z).Created("web"); err != nil {
			t.Errorf("%s: %v", fail, err)
		}
	}
	z.fail = ""
	y.Must(y.creator(z).Destroy(t.Context(), c, true))
	if len(z.there) > 0 {
		t.Errorf("left: %q", z.there)
	}
}

// A prototype's own datasets are mounted whether its jail runs or not, and do not prevent a destroy. Any
// other mount does.
func TestMountedDatasets(t *testing.T) {
	t.Parallel()
	c := &Creation{Datasets: []Dataset{
		{Name: "z/proto", Mountpoint: "/jail/proto"}, {Name: "z/proto/etc", Mountpoint: inherit},
		{Name: "z/web"},
	}}
	proto := mount.Mount{Type: "zfs", Source: "z/proto", Dir: "/jail/proto"}
	etc := mount.Mount{Type: "zfs", Source: "z/proto/etc", Dir: "/jail/proto/etc"}
	for name, c2 := range map[string]struct {
		mounts []mount.Mount
		in     string
	}{
		"none":    {nil, ""},
		"its own": {[]mount.Mount{proto, etc}, ""},
		"and devfs": {
			[]mount.Mount{proto, {Type: "devfs", Source: "devfs", Dir: "/jail/proto/dev"}},
			"/jail/proto/dev",
		},
		"a dataset of another": {
			[]mount.Mount{{Type: "zfs", Source: "z/other", Dir: "/jail/proto/usr"}},
			"/jail/proto/usr",
		},
		"one that fstab mounts": {
			[]mount.Mount{{Type: "zfs", Source: "z/web", Dir: "/jail/web"}}, "/jail/web",
		},
		"of the name, by nullfs": {
			[]mount.Mount{{Type: "nullfs", Source: "z/proto", Dir: "/jail/proto"}}, "/jail/proto",
		},
		"a snapshot of a dataset": {
			[]mount.Mount{{Type: "zfs", Source: "z/proto@1", Dir: "/jail/proto/.zfs/snapshot/1"}},
			"",
		},
	} {
		if err := c.inUse(c2.mounts); (err != nil) != (c2.in != "") ||
			err != nil && !strings.Contains(err.Error(), c2.in+" is mounted") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
