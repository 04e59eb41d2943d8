package jailhooks

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"

	"cfgd/config"
	"cfgd/internal/run"
)

// Spec says what jail is to be made.
type Spec struct {
	Name      string
	Hostname  string
	IP        string // one address
	Interface string // "" leaves the line out
	Prototype *config.Prototype
	Mark      string // of the prototype's snapshots
	Snapshot  string
	Dataset   string // the prototype's; "" where it is not on ZFS
}

// rooms are the filesystems of a jail's own, each with a mountpoint in the prototype.
var rooms = []string{"cfg", "var", "home"}

var (
	jailName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,62}$`) // it becomes part of names of rc.conf's variables
	hostName  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$`)
	netDevice = regexp.MustCompile(`^[a-z][a-z0-9_.]{0,14}$`)
)

func (s *Spec) check() error {
	switch {
	case !jailName.MatchString(s.Name) || s.Name == config.HostName:
		return fmt.Errorf("%q cannot be a jail's name: letters, digits and _", s.Name)
	case !hostName.MatchString(s.Hostname):
		return fmt.Errorf("%q is no host name", s.Hostname)
	case s.Interface != "" && !netDevice.MatchString(s.Interface):
		return fmt.Errorf("%q is no network interface", s.Interface)
	}
	if _, err := netip.ParseAddr(s.IP); s.IP != "" && err != nil {
		return fmt.Errorf("%q is no address: %w", s.IP, err)
	}
	return nil
}

// Creation is what was made for a jail, for its undoing: nothing else is ever undone.
type Creation struct {
	Jail     string    `json:"jail"`
	Time     time.Time `json:"time"`
	Datasets []string  `json:"datasets,omitempty"` // parents first
	Dirs     []string  `json:"dirs,omitempty"`
	Root     string    `json:"root"`
	Fstab    string    `json:"fstab"`
	Text     string    `json:"text"` // of the fstab
	Conf     string    `json:"conf"`
	Block    string    `json:"block"` // the lines that were added to Conf
}

// Plan computes what a jail needs: the paper's section 3.6.
func (s *Spec) Plan(now time.Time) (*Creation, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	jails := path.Dir(s.Prototype.Root)
	c := &Creation{Jail: s.Name, Time: now.UTC(), Root: jails + "/" + s.Name, Fstab: "/etc/fstab." + s.Name, Conf: "/etc/rc.conf"}
	var b strings.Builder
	line := func(source, dir, kind, options string) {
		fmt.Fprintf(&b, "%s %s %s %s 0 0\n", config.VisFstab(source), config.VisFstab(dir), kind, options)
	}
	line(s.Prototype.Root+s.Mark+s.Snapshot, c.Root, "nullfs", "ro")
	line(s.Prototype.Etc(s.Mark, s.Snapshot), c.Root+"/conf/base/etc", "nullfs", "ro")
	if s.Dataset != "" {
		own := path.Join(path.Dir(s.Dataset), s.Name)
		c.Datasets = append(c.Datasets, own)
		for _, r := range rooms {
			c.Datasets = append(c.Datasets, own+"/"+r)
			line(own+"/"+r, c.Root+"/"+r, "zfs", "rw")
		}
	} else {
		own := jails + "/.cfgd/" + s.Name
		c.Dirs = append(c.Dirs, own)
		for _, r := range rooms {
			c.Dirs = append(c.Dirs, own+"/"+r)
			line(own+"/"+r, c.Root+"/"+r, "nullfs", "rw")
		}
	}
	c.Text, c.Block = b.String(), s.block(c)
	return c, nil
}

// block is the lines of rc.conf, between two comments by which they are found again.
func (s *Spec) block(c *Creation) string {
	var b strings.Builder
	set := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, "jail_%s_%s=\"%s\"\n", s.Name, key, value)
		}
	}
	fmt.Fprintf(&b, "# cfgd jail create %s\njail_list=\"$jail_list %[1]s\"\n", s.Name)
	set("rootdir", c.Root)
	set("hostname", s.Hostname)
	set("ip", s.IP)
	set("interface", s.Interface)
	set("devfs_enable", "YES")
	set("mount_enable", "YES")
	set("fstab", c.Fstab)
	set("exec_prestart0", "/usr/local/sbin/cfgd jail init "+s.Name)
	set("exec_poststop0", "/usr/local/sbin/cfgd jail cleanup "+s.Name)
	fmt.Fprintf(&b, "# cfgd jail create %s: end\n", s.Name)
	return b.String()
}

// zfsCreate are the commands for the datasets.
func (c *Creation) zfsCreate() []run.Cmd {
	var all []run.Cmd
	for _, d := range c.Datasets {
		all = append(all, run.Command("zfs", "create", "-o", "mountpoint=legacy", d))
	}
	return all
}

// Lines are what creating it does, for people: commands as they run, and files.
func (c *Creation) Lines() []string {
	var all []string
	for _, cmd := range c.zfsCreate() {
		all = append(all, cmd.String())
	}
	for _, d := range append(slices.Clone(c.Dirs), c.Root) {
		all = append(all, "mkdir "+d)
	}
	return append(all, "write "+c.Fstab, "append to "+c.Conf)
}

// Creator makes jails and undoes just what it made. What was made stands in /var/db/cfgd/jails/NAME.json, written before the first step.
type Creator struct {
	Model    *config.Model
	Run      run.Runner
	SaveHost func(ctx context.Context, path string) error // nil where the host's /etc is on a disk
	Reload   func() (*config.Model, error)
}

func (k *Creator) record(name string) string {
	return filepath.Join(k.Model.Path("/var/db/cfgd/jails"), name+".json")
}

// ErrExists says that something of a new jail is there already.
var ErrExists = errors.New("is there already")

// free refuses to make what is there.
func (k *Creator) free(c *Creation) error {
	if k.Model.Target(c.Jail) != nil || slices.ContainsFunc(k.Model.Jails, func(j *config.Jail) bool { return j.Name == c.Jail }) {
		return fmt.Errorf("a jail %s %w", c.Jail, ErrExists)
	}
	for _, p := range append([]string{c.Fstab, c.Root}, c.Dirs...) {
		if _, err := os.Lstat(k.Model.Path(p)); err == nil {
			return fmt.Errorf("%s %w", p, ErrExists)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Create makes a jail. A step that fails undoes those before it.
func (k *Creator) Create(ctx context.Context, c *Creation) error {
	if err := k.free(c); err != nil {
		return err
	}
	b, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(k.record(c.Jail)), 0o700); err != nil {
		return err
	}
	if err := writeSynced(k.record(c.Jail), append(b, '\n'), nil); err != nil {
		return err
	}
	if err := k.create(ctx, c); err != nil {
		return errors.Join(err, k.undo(context.WithoutCancel(ctx), c, false))
	}
	return nil
}

func (k *Creator) create(ctx context.Context, c *Creation) error {
	for _, cmd := range c.zfsCreate() {
		if _, err := k.Run.Run(ctx, cmd); err != nil {
			return err
		}
	}
	for _, d := range append(slices.Clone(c.Dirs), c.Root) {
		if err := os.MkdirAll(k.Model.Path(d), 0o755); err != nil {
			return err
		}
	}
	if err := writeSynced(k.Model.Path(c.Fstab), []byte(c.Text), nil); err != nil {
		return err
	}
	if err := os.Chmod(k.Model.Path(c.Fstab), 0o644); err != nil {
		return err
	}
	if err := k.edit(c.Conf, func(old []byte) ([]byte, error) {
		if len(old) > 0 && !bytes.HasSuffix(old, []byte("\n")) {
			old = append(old, '\n')
		}
		return append(old, c.Block...), nil
	}); err != nil {
		return err
	}
	m, err := k.Reload()
	if err != nil {
		return err
	}
	if m.Target(c.Jail) == nil {
		return fmt.Errorf("%s: with the new lines %s is no target: cfgd check tells why", c.Conf, c.Jail)
	}
	return k.save(ctx, c)
}

// save brings what changed in the host's etc to its cfg.
func (k *Creator) save(ctx context.Context, c *Creation) error {
	if k.SaveHost == nil {
		return nil
	}
	var errs []error
	for _, p := range []string{c.Fstab, c.Conf} {
		errs = append(errs, k.SaveHost(ctx, strings.TrimPrefix(p, "/etc/")))
	}
	return errors.Join(errs...)
}

// edit replaces a file of the host's.
func (k *Creator) edit(file string, change func(old []byte) ([]byte, error)) error {
	full, err := filepath.EvalSymlinks(k.Model.Path(file))
	if err != nil {
		return err
	}
	old, err := os.ReadFile(full)
	if err != nil {
		return err
	}
	text, err := change(slices.Clone(old))
	if err != nil || bytes.Equal(text, old) {
		return err
	}
	return replaceFile(full, text)
}

// undo takes away what there is of a jail, last things first. What is not there is no error. With snapshots those of its datasets go too.
func (k *Creator) undo(ctx context.Context, c *Creation, snapshots bool) error {
	errs := []error{k.edit(c.Conf, func(old []byte) ([]byte, error) { return bytes.Replace(old, []byte(c.Block), nil, 1), nil })}
	if err := os.Remove(k.Model.Path(c.Fstab)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, d := range slices.Backward(c.Datasets) {
		if _, err := k.Run.Run(ctx, run.Command("zfs", "list", "-H", "-o", "name", d)); err != nil {
			continue // it was not made
		}
		destroy := run.Command("zfs", "destroy", d)
		if snapshots {
			destroy = run.Command("zfs", "destroy", "-r", d)
		}
		_, err := k.Run.Run(ctx, destroy)
		errs = append(errs, err)
	}
	errs = append(errs, k.removeRoot(c))
	if len(c.Dirs) > 0 {
		errs = append(errs, os.RemoveAll(k.Model.Path(c.Dirs[0])))
	}
	errs = append(errs, k.save(ctx, c))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("undo: %w; what was made is listed in %s", err, k.record(c.Jail))
	}
	return os.Remove(k.record(c.Jail))
}

// removeRoot removes the jail's root: a mountpoint, and empty. With --root the trees themselves lie there.
func (k *Creator) removeRoot(c *Creation) error {
	root := k.Model.Path(c.Root)
	if k.Model.Root != "" {
		return os.RemoveAll(root)
	}
	if err := os.Remove(root); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// unmounted refuses a jail of which something is mounted still.
func (k *Creator) unmounted(c *Creation) error {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(k.Model.Path(c.Root)))
	if err == nil && len(infos) > 0 {
		err = fmt.Errorf("%s is mounted: stop the jail first", infos[0].Mountpoint)
	}
	return err
}

// ErrAdded says that a jail has more than was made for it.
var ErrAdded = errors.New("something was added since")

// Created reads what was made for a jail.
func (k *Creator) Created(name string) (*Creation, error) {
	b, err := os.ReadFile(k.record(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s was not made by cfgd jail create: it is not undone by cfgd either", name)
	}
	if err != nil {
		return nil, err
	}
	var c Creation
	if err := json.Unmarshal(b, &c); err != nil || c.Jail != name {
		return nil, fmt.Errorf("%s: not the record of jail %s (%v)", k.record(name), name, err)
	}
	return &c, nil
}

// Destroy undoes what Create made. Without force it refuses where more was added since: another line in the fstab or the block of rc.conf,
// a dataset or a snapshot.
func (k *Creator) Destroy(ctx context.Context, c *Creation, force bool) error {
	if !force {
		if err := k.unchanged(ctx, c); err != nil {
			return fmt.Errorf("%w; --force destroys it all the same", err)
		}
	}
	if err := k.unmounted(c); err != nil {
		return err
	}
	return k.undo(ctx, c, force)
}

func (k *Creator) unchanged(ctx context.Context, c *Creation) error {
	text, err := os.ReadFile(k.Model.Path(c.Fstab))
	if err != nil {
		return err
	}
	if !sameFstab(string(text), c.Text) {
		return fmt.Errorf("%s: %w", c.Fstab, ErrAdded)
	}
	conf, err := os.ReadFile(k.Model.Path(c.Conf))
	if err != nil {
		return err
	}
	if !bytes.Contains(conf, []byte(c.Block)) {
		return fmt.Errorf("%s: the lines of %s are not as they were written: %w", c.Conf, c.Jail, ErrAdded)
	}
	if len(c.Datasets) == 0 {
		return nil
	}
	out, err := k.Run.Run(ctx, run.Command("zfs", "list", "-Hr", "-t", "all", "-o", "name", c.Datasets[0]))
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(out) {
		if !slices.Contains(c.Datasets, name) {
			return fmt.Errorf("%s: %w", name, ErrAdded)
		}
	}
	return nil
}

// sameFstab compares two fstabs but for the snapshots that they name: jail switch changes those.
func sameFstab(a, b string) bool {
	plain := func(text string) (out []string) {
		entries, err := config.ParseJailFstab("", []byte(text))
		if err != nil {
			return []string{text}
		}
		for _, e := range entries {
			source := e.Source
			if s, ok := config.ParseSnapshot(source); ok {
				source = s.At("").String()
			}
			out = append(out, strings.Join([]string{source, e.Dir, e.Type, strings.Join(e.Options, ",")}, " "))
		}
		return out
	}
	return slices.Equal(plain(a), plain(b))
}
