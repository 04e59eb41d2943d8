package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/internal/disk"
	"cfgd/internal/mount"
	"cfgd/internal/pathname"
	sysrun "cfgd/internal/run"
	"cfgd/nano"
)

func (s *session) nanoCommand() *cli.Command {
	return &cli.Command{
		Name: "nano", Usage: "NanoBSD's slices: status, a new image, which one boots",
		Subcommands: []*cli.Command{
			{
				Name: "status", Usage: "show the slices: which one runs, which one boots next",
				Action: s.nanoStatus,
			},
			{
				Name: "install", ArgsUsage: "FILE|-",
				Usage: "write an image into the slice that does not run",
				Description: "" +
					"FILE is a plain, gzip, xz or zstd image of a slice (_.disk.image), of a whole " +
					"medium, MBR or GPT (_.disk.full), or of a bare filesystem (-upgrade.img). A - is " +
					"standard input. Of a medium, the first slice that holds a system is taken, from " +
					"standard input the first slice. The image is fitted to this disk: into a GPT " +
					"goes partition a of a slice with a BSD label; before a bare filesystem in a " +
					"slice of an MBR go the boot blocks and the label of the running slice.\n\n" +
					"Before it writes, cfgd checks that the slice neither runs nor is mounted, and " +
					"that the image holds a filesystem and fits. A FILE is read to its end first, to " +
					"check its digest, that it is complete, and that its fstabs can name its own " +
					"slice. Of standard input these are checked at the end, when the other slice is " +
					"overwritten already. The running slice still boots then.\n\n" +
					"The boot blocks are written last, after the rest was read back and compared. " +
					"Then the fstabs are made to name their own slice, and the filesystem gets the " +
					"label that they name. The running system's /boot/loader.conf.local and " +
					"/boot.config are copied. If the image has no loader or no kernel, a warning says " +
					"so.\n\n" +
					"Until then the running slice is what boots next, even if it was on trial itself. " +
					"Then the new slice boots next. If the loader can do that (gptboot), it boots " +
					"once, until cfgd nano confirm.",
				Flags: []cli.Flag{
					&cli.BoolFlag{
						Name: "no-carry", Usage: "leave out /boot/loader.conf.local and /boot.config",
					},
					&cli.StringFlag{
						Name: "sha256", Usage: "refuse a FILE whose SHA-256, as it comes in, is not `HEX`",
					},
					&cli.BoolFlag{Name: "activate", Usage: "boot it next (the default)", Value: true},
					&cli.BoolFlag{Name: "no-activate", Usage: "only write it"},
					&cli.IntFlag{
						Name: "slice", Usage: "write slice `NUMBER`",
						DefaultText: "the one that does not run",
					},
				},
				Action: s.nanoInstall,
			},
			{
				Name: "activate", ArgsUsage: "SLICE", Usage: "boot a slice from now on",
				Flags: []cli.Flag{planFlag()}, Action: s.nanoActivate,
			},
			{
				Name: "rollback", Usage: "boot the other system again",
				Description: "" +
					"Before the restart, the running slice boots next again, if another one was " +
					"chosen. After the restart, the slice that does not run boots next. To take back " +
					"a rollback before the restart, run it again.",
				Flags: []cli.Flag{planFlag()}, Action: s.nanoRollback,
			},
			{
				Name: "confirm", Usage: "boot the slice that is on trial from now on",
				Description: "" +
					"The slice on trial is the running one. Before the restart nothing is on trial " +
					"yet: then confirm calls off what was to boot next, and says so.",
				Flags: []cli.Flag{planFlag()}, Action: s.nanoConfirm,
			},
		},
	}
}

func planFlag() cli.Flag {
	return &cli.BoolFlag{Name: "plan", Usage: "show what would be done, and do nothing"}
}

// nano returns the machine's disk.
func (s *session) nano(ctx context.Context) (*nano.Disk, error) {
	m, err := s.model()
	if err != nil {
		return nil, err
	}
	n, err := m.Nano()
	if err != nil {
		return nil, err
	}
	x := &nano.Disk{
		Nano: *n, Root: m.Path("/"), RunDir: m.RunDir(),
		Run: sysrun.System{}, Command: m.Root == "", Mounted: s.mounted, MountedOn: s.mountedOn,
		Warn: func(text string) { s.warn("", text) },
	}
	return x, x.Find(ctx, m.Path("/dev"))
}

// slices returns the disk and its two slices for systems.
func (s *session) slices(c *cli.Context) (*nano.Disk, []nano.Slice, *nano.Table, error) {
	m, err := s.nano(c.Context)
	if err != nil {
		return nil, nil, nil, err
	}
	all, t, err := m.Slices(c.Context)
	return m, all, t, err
}

// mounted returns all mounts. With --root there are none.
func (s *session) mounted() ([]mount.Mount, error) {
	if s.loaded.Root != "" {
		return nil, nil
	}
	return mount.All()
}

// mountedOn lists what is mounted on a directory. With --root nothing is.
func (s *session) mountedOn(dir string) ([]mount.Mount, error) {
	if s.loaded.Root != "" {
		return nil, nil
	}
	return mount.On(dir)
}

// listedSlice is the JSON of a slice.
type listedSlice struct {
	Name    string     `json:"name"`
	Size    int64      `json:"size"` // bytes
	Running bool       `json:"running"`
	Next    bool       `json:"next"`
	Once    bool       `json:"once,omitempty"`
	Failed  bool       `json:"failed,omitempty"`
	Trial   bool       `json:"trial,omitempty"`
	Label   string     `json:"label,omitempty"`
	Date    *time.Time `json:"date,omitempty"`
	Trouble string     `json:"trouble,omitempty"`
}

func (s *session) nanoStatus(c *cli.Context) error {
	if err := counted(c, 0, 0); err != nil {
		return err
	}
	m, all, t, err := s.slices(c)
	if err != nil {
		return err
	}
	for _, n := range slices.Concat(t.Notes, t.Doubts()) {
		s.warn("", m.Drive+": "+n)
	}
	tried, err := s.tried(c.Context, m, all)
	if err != nil {
		s.warn("", err.Error())
	}
	list := []listedSlice{}
	for _, x := range all {
		l := listedSlice{
			Name: x.Name, Size: x.Size, Running: x.Running, Next: x.Next, Once: x.Once, Failed: x.Failed,
			Label: x.Image.Label, Trouble: x.Image.Trouble,
		}
		l.Trial = x.Index == tried
		if !x.Image.Date.IsZero() {
			l.Date = &x.Image.Date
		}
		list = append(list, l)
	}
	return s.printSlices(list, t)
}

func (s *session) printSlices(list []listedSlice, t *nano.Table) error {
	if s.json {
		return s.print(struct {
			Version int           `json:"version"`
			Scheme  string        `json:"scheme"`
			Loader  disk.Loader   `json:"loader,omitempty"` // left out if it is not known
			Next    string        `json:"next"`             // "?" if it is not known
			Slices  []listedSlice `json:"slices"`
			Doubts  []string      `json:"doubts,omitempty"`
		}{1, t.Scheme, t.Loader, t.NextName(), list, t.Doubts()})
	}
	w := newTable()
	w.row("SLICE", "SIZE", "STATE", "LABEL", "IMAGE OF")
	for _, l := range list {
		when := "-"
		if l.Date != nil {
			when = l.Date.Local().Format(time.DateTime)
		}
		w.row(l.Name, bytesText(uint64(l.Size)), dash(strings.Join(states(l), ", ")),
			dash(pathname.Plain(l.Label)), when)
	}
	if err := w.print(s.out); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(s.out, onceWords(t)); err != nil {
		return err
	}
	for _, l := range list {
		if l.Trouble != "" {
			s.warn(l.Name, "holds no system that can be read: "+pathname.Plain(l.Trouble))
		}
	}
	return nil
}

// onceWords tells which loader boots the disk, and who goes back from a system that is on trial.
func onceWords(t *nano.Table) string {
	name := cmp.Or(string(t.Loader), "a loader that is not known")
	if t.CanTryOnce() {
		return "booted by " + name + ", which can boot a system once and go back by itself"
	}
	return "booted by " + name + ", which cannot boot a system once: a trial is cfgd's own"
}

func states(l listedSlice) []string {
	var words []string
	for _, x := range []struct {
		is   bool
		word string
	}{
		{l.Running, "running"}, {l.Trial, "on trial"}, {l.Next && l.Once, "boots next, once"},
		{l.Next && !l.Once, "boots next"}, {l.Failed, "failed to boot"},
	} {
		if x.is {
			words = append(words, x.word)
		}
	}
	return words
}

func (s *session) nanoInstall(c *cli.Context) error {
	if err := counted(c, 1, 1); err != nil {
		return err
	}
	sum := c.String("sha256")
	if sum != "" && (len(sum) != 64 || strings.Trim(strings.ToLower(sum), "0123456789abcdef") != "") {
		return usagef("--sha256 %s: not 64 hexadecimal digits", sum)
	}
	m, err := s.nano(c.Context)
	if err != nil {
		return err
	}
	from, done, err := s.opened(c.Args().First())
	if err != nil {
		return err
	}
	defer done()
	bar := &progress{}
	in := nano.Install{
		From: from, SHA256: sum, Slice: c.Int("slice"), Carry: !c.Bool("no-carry"),
		Activate: c.Bool("activate") && !c.Bool("no-activate"),
		Begin:    func(total int64, name string) { bar = s.newProgress(name, total) },
		Progress: func(n int64) { bar.at(n) },
	}
	if host := s.loaded.Target(config.HostName); host != nil {
		in.Trials, in.Within = s.trials(m, host), host.Trial
	}
	r, err := m.Install(c.Context, in)
	bar.end()
	if err != nil {
		return err
	}
	return s.printInstalled(c, m, r)
}

// trials returns the trials of the host.
func (s *session) trials(m *nano.Disk, host *config.Target) *nano.Trials {
	o := s.overlay(host)
	t := &nano.Trials{Disk: m, Read: o.Trial, Write: o.WriteTrial,
		Restart: func(ctx context.Context) error {
			if s.loaded.Root != "" {
				return nil // with --root no command runs
			}
			_, err := sysrun.System{}.Run(ctx,
				sysrun.Command("shutdown", "-r", "now", "cfgd: the image on trial was not confirmed"))
			return err
		}}
	if host.Health != "" {
		t.Health = func(ctx context.Context) error {
			_, err := sysrun.System{}.Run(ctx, sysrun.Command("sh", "-c", host.Health))
			return err
		}
	}
	return t
}

func isConfigError(err error) bool {
	var ce *conffile.Error
	return errors.As(err, &ce)
}

// tried returns the slice of the running system if it is on trial, by its loader or by cfgd; else 0.
func (s *session) tried(ctx context.Context, m *nano.Disk, all []nano.Slice) (int, error) {
	for _, x := range all {
		if x.Trial {
			return x.Index, nil
		}
	}
	host := s.loaded.Target(config.HostName)
	if host == nil {
		return 0, nil
	}
	x, err := s.trials(m, host).Now(ctx)
	if err != nil || x == nil {
		return 0, err
	}
	return x.Slice, nil
}

// systems returns what a report tells about a NanoBSD host's slices: the one on trial, or "", and those that
// did not boot. It is silent about a disk that can't be read; cfgd check and nano status report that.
func (s *session) systems(ctx context.Context) (trial string, dead []string, err error) {
	if s.loaded.Target(config.HostName) == nil {
		return "", nil, nil
	}
	m, err := s.nano(ctx)
	if isConfigError(err) {
		return "", nil, nil // no NanoBSD host, or check reports what is wrong with it
	}
	if err != nil {
		return "", nil, err
	}
	all, _, _ := m.Slices(ctx)
	for _, x := range all {
		if x.Failed {
			dead = append(dead, x.Name)
		}
	}
	n, err := s.tried(ctx, m, all)
	if n != 0 {
		trial = m.Name(n)
	}
	return trial, dead, err
}

// opened opens the image that is to be installed.
func (s *session) opened(name string) (io.Reader, func(), error) {
	if name == "-" {
		return s.in, func() {}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, nil, err
	}
	return f, func() { f.Close() }, nil
}

func (s *session) printInstalled(c *cli.Context, m *nano.Disk, r *nano.Installed) error {
	for _, l := range r.Lacks {
		s.warn(r.Slice.Name, l)
	}
	if s.json {
		return s.print(struct {
			Version int    `json:"version"`
			Slice   string `json:"slice"`
			Form    string `json:"form"`
			Bytes   int64  `json:"bytes"`
			SHA256  string `json:"sha256"`
			Once    bool   `json:"once"`
			Kept    bool   `json:"kept,omitempty"` // the running system was on trial, and stays
		}{1, r.Slice.Name, r.Form, r.Bytes, r.Digest, r.Once, r.Kept})
	}
	what := r.Form + " image"
	if r.Full {
		what += " of a whole medium"
	}
	if _, err := fmt.Fprintf(s.out, "%s %s written, %s, SHA-256 %s, and read back\n", r.Slice.Name, what,
		bytesText(uint64(r.Bytes)), r.Digest); err != nil {
		return err
	}
	for _, f := range r.Fstabs {
		if _, err := fmt.Fprintf(s.out, "%s /%s names it for /\n", r.Slice.Name, f); err != nil {
			return err
		}
	}
	for _, f := range r.Carried {
		_, err := fmt.Fprintf(s.out, "%s /%s of the running system carried over\n", r.Slice.Name, f)
		if err != nil {
			return err
		}
	}
	if r.Kept {
		if _, err := fmt.Fprintf(s.out, "%s, which runs, was on trial and stays from now on: it is what "+
			"to go back to\n", m.Name(m.Running)); err != nil {
			return err
		}
	}
	if err := s.printNext(c, m); err != nil || r.Once || c.Bool("no-activate") || !c.Bool("activate") {
		return err
	}
	words := "nothing goes back by itself: the loader cannot boot a system once, and cfgd.toml has no trial"
	if host := s.loaded.Target(config.HostName); host != nil && host.Trial > 0 {
		words = fmt.Sprintf("it is on trial for %v: the loader cannot boot a system once; cfgd itself "+
			"goes back unless cfgd nano confirm is run", host.Trial)
	}
	_, err := fmt.Fprintln(s.out, words)
	return err
}

// printNext prints which slice boots next.
func (s *session) printNext(c *cli.Context, m *nano.Disk) error {
	t, err := m.Table(c.Context)
	if err != nil {
		return err
	}
	words := t.NextName() + " boots next"
	if x, ok := t.Slice(t.Next()); ok && x.Once {
		words += ", once: cfgd nano confirm keeps it when it runs"
	}
	if _, err := fmt.Fprintln(s.out, words); err != nil {
		return err
	}
	for _, d := range t.Doubts() {
		s.warn("", m.Drive+": "+d)
	}
	return nil
}

func (s *session) nanoActivate(c *cli.Context) error {
	if err := counted(c, 1, 1); err != nil {
		return err
	}
	return s.decide(c, nano.Named(c.Args().First()))
}

func (s *session) nanoRollback(c *cli.Context) error {
	if err := counted(c, 0, 0); err != nil {
		return err
	}
	return s.decide(c, nano.Rollback)
}

func (s *session) nanoConfirm(c *cli.Context) error {
	if err := counted(c, 0, 0); err != nil {
		return err
	}
	return s.decide(c, nano.Confirm)
}

// decide makes a slice boot from now on. With --plan it only prints how.
func (s *session) decide(c *cli.Context, pick nano.Pick) error {
	m, err := s.nano(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("plan") {
		d, err := m.Plan(c.Context, pick)
		if err != nil {
			return decided(err)
		}
		if len(d.Commands) == 0 {
			_, err := fmt.Fprintf(s.out, "nothing: the table says already that %s boots\n", d.Slice.Name)
			return err
		}
		for _, cmd := range d.Commands {
			if _, err := fmt.Fprintln(s.out, cmd); err != nil {
				return err
			}
		}
		return nil
	}
	var trials *nano.Trials
	if host := s.loaded.Target(config.HostName); host != nil {
		trials = s.trials(m, host)
	}
	d, err := m.Decide(c.Context, pick, trials)
	if err != nil {
		return decided(err)
	}
	if err := s.printNext(c, m); err != nil || d.Off == "" {
		return err
	}
	_, err = fmt.Fprintf(s.out, "%s, which was to boot next, is called off\n", d.Off)
	return err
}

func decided(err error) error {
	if errors.Is(err, nano.ErrNoSlice) {
		return usagef("%v", err)
	}
	return err
}
