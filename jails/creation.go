package jails

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/config/fstab"
	"cfgd/internal/dirfd"
	"cfgd/internal/hostfile"
	"cfgd/internal/mount"
	"cfgd/internal/run"
	"cfgd/overlay"
)

// Creation records what was made for a jail. Only that is ever undone.
type Creation struct {
	Jail      string    `json:"jail"`
	Time      time.Time `json:"time"`
	Root      string    `json:"root"`
	Snapshots []string  `json:"snapshots,omitempty"` // of another jail's datasets, for clones
	Datasets  []Dataset `json:"datasets,omitempty"`  // parents first
	Dirs      []Dir     `json:"dirs,omitempty"`      // parents first
	Files     []File    `json:"files"`               // of a jail, its fstab first
	Prototype bool      `json:"prototype,omitempty"` // it is one, and no target
	Undoing   bool      `json:"undoing,omitempty"`   // its undoing has begun

	Notes []string `json:"-"` // what a reader should know of the plan

	base       *config.Prototype // whose snapshot the jail is on; nil for a prototype
	onSnapshot string
}

// Dataset is a ZFS filesystem.
type Dataset struct {
	Name   string `json:"name"`
	Origin string `json:"origin,omitempty"` // the snapshot that it is a clone of
	// Mountpoint is where ZFS mounts it: "" for legacy, so that fstab decides, or inherit, so that the
	// dataset above decides.
	Mountpoint string `json:"mountpoint,omitempty"`
}

// Dir is a directory.
type Dir struct {
	Name string `json:"name"`
	From string `json:"from,omitempty"` // the tree that it is a copy of
}

// File is a file of the host: a whole file, or lines at the end of an existing one.
type File struct {
	Name  string `json:"name"`
	Text  string `json:"text"`
	Whole bool   `json:"whole,omitempty"`
}

// snapshot takes all snapshots at one moment.
func (c *Creation) snapshot() run.Cmd {
	return run.Command("zfs", append([]string{"snapshot"}, c.Snapshots...)...)
}

// make makes the dataset.
func (d Dataset) make() run.Cmd {
	if d.Origin != "" {
		return run.Command("zfs", "clone", "-o", "mountpoint=legacy", d.Origin, d.Name)
	}
	if d.Mountpoint == inherit {
		return run.Command("zfs", "create", d.Name)
	}
	return run.Command("zfs", "create", "-o", "mountpoint="+cmp.Or(d.Mountpoint, "legacy"), d.Name)
}

const inherit = "inherit"

// Lines returns what will be made, for people: commands as they run, and files.
func (c *Creation) Lines() []string {
	var all []string
	if len(c.Snapshots) > 0 {
		all = append(all, c.snapshot().String())
	}
	for _, d := range c.Datasets {
		all = append(all, d.make().String())
	}
	all = append(all, "mkdir "+c.Root)
	for _, d := range c.Dirs {
		if d.From != "" {
			all = append(all, "copy "+d.From+" to "+d.Name)
		} else {
			all = append(all, "mkdir "+d.Name)
		}
	}
	for _, f := range c.Files {
		if f.Whole {
			all = append(all, "write "+f.Name)
		} else {
			all = append(all, "append to "+f.Name)
		}
	}
	return all
}

// Holds returns what is destroyed with a jail: its datasets and directories.
func (c *Creation) Holds() []string {
	var all []string
	for _, d := range c.Datasets {
		all = append(all, d.Name)
	}
	for _, d := range c.Dirs {
		all = append(all, d.Name)
	}
	return append(all, c.Root)
}

// Creator makes jails and undoes exactly what it made. The record, /var/db/cfgd/jails/NAME.json, is
// written before the first step.
type Creator struct {
	Model    *config.Model
	Run      run.Runner
	SaveHost func(ctx context.Context, path string) error // nil if the host's /etc is on a disk
	Reload   func() (*config.Model, error)
	// Locked runs f while nobody writes the cfg that is cloned. It is nil if no cfg is cloned.
	Locked func(ctx context.Context, f func() error) error
}

// lock takes the locks of what is made or destroyed.
func (k *Creator) lock(ctx context.Context, c *Creation) (unlock func(), err error) {
	if c.Prototype {
		return lockPrototype(ctx, k.Model, c.Jail)
	}
	return lockOn(ctx, k.Model, c.Jail, c.base)
}

func (k *Creator) record(name string) string {
	return filepath.Join(k.Model.Path("/var/db/cfgd/jails"), name+".json")
}

// ErrExists reports that a part of a new jail exists already.
var ErrExists = errors.New("is there already")

// free returns an error if something that is to be made exists: it would be undone with the rest.
func (k *Creator) free(ctx context.Context, c *Creation) error {
	if k.Model.Target(c.Jail) != nil || slices.ContainsFunc(k.Model.Jails, func(j *config.Jail) bool {
		return j.Name == c.Jail
	}) {
		return fmt.Errorf("a jail %s %w", c.Jail, ErrExists)
	}
	paths := []string{c.Root}
	for _, d := range c.Dirs {
		paths = append(paths, d.Name)
	}
	for _, f := range c.Files {
		if f.Whole {
			paths = append(paths, f.Name)
		}
	}
	for _, p := range paths {
		if _, err := os.Lstat(k.Model.Path(p)); err == nil {
			return fmt.Errorf("%s %w", p, ErrExists)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, d := range c.Datasets {
		there, err := k.has(ctx, d.Name)
		if err != nil {
			return err
		}
		if there {
			return fmt.Errorf("dataset %s %w", d.Name, ErrExists)
		}
	}
	for _, s := range c.Snapshots {
		there, err := k.has(ctx, s)
		if err != nil {
			return err
		}
		if there {
			return fmt.Errorf("snapshot %s %w", s, ErrExists)
		}
	}
	return nil
}

// note writes the record of what is being made or undone.
func (k *Creator) note(c *Creation) error {
	b, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return err
	}
	return hostfile.Write(k.record(c.Jail), append(b, '\n'), 0o600)
}

// has reports whether a dataset or snapshot exists. It searches a list, because zfs(8) exits with 1 both
// if a name does not exist and if it cannot look, for example when a pool does not answer.
func (k *Creator) has(ctx context.Context, name string) (bool, error) {
	dataset, _, snapshot := strings.Cut(name, "@")
	there, err := k.listed(ctx, dataset, "-t", "filesystem,volume")
	if err != nil || !there || !snapshot {
		return there, err
	}
	return k.listed(ctx, name, "-t", "snapshot", "-d", "1", dataset)
}

// listed reports whether zfs list with these arguments prints the name.
func (k *Creator) listed(ctx context.Context, name string, args ...string) (bool, error) {
	out, err := k.Run.Run(ctx, run.Command("zfs", append([]string{"list", "-H", "-o", "name"}, args...)...))
	if err != nil {
		return false, err
	}
	return slices.Contains(strings.Split(out, "\n"), name), nil
}

// Create makes a jail. A step that fails undoes those before it. It returns the problems that the
// configuration then has with the jail.
func (k *Creator) Create(ctx context.Context, c *Creation) ([]conffile.Problem, error) {
	unlock, err := k.lock(ctx, c)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if c.base != nil {
		if err := snapshotsExist(k.Model, c.Files[0].Name, []byte(c.Files[0].Text), c.onSnapshot); err != nil {
			return nil, err
		}
	}
	if err := k.free(ctx, c); err != nil {
		return nil, err
	}
	if err := k.note(c); err != nil {
		return nil, err
	}
	done := &Creation{Jail: c.Jail, Time: c.Time, Root: c.Root, Prototype: c.Prototype}
	problems, err := k.create(ctx, c, done)
	if err != nil {
		done.Undoing = true
		return nil, errors.Join(err, k.note(done), k.undo(context.WithoutCancel(ctx), done, false))
	}
	return problems, nil
}

// create makes everything, and records in done what would have to be undone. A command that fails made
// nothing; a copy or a file may be half made.
func (k *Creator) create(ctx context.Context, c, done *Creation) ([]conffile.Problem, error) {
	if len(c.Snapshots) > 0 {
		if _, err := k.Run.Run(ctx, c.snapshot()); err != nil {
			return nil, err
		}
		done.Snapshots = c.Snapshots
	}
	for _, d := range c.Datasets {
		if _, err := k.Run.Run(ctx, d.make()); err != nil {
			return nil, err
		}
		done.Datasets = append(done.Datasets, d)
	}
	if err := k.dir(ctx, Dir{Name: c.Root}); err != nil {
		return nil, err
	}
	if err := k.dirs(ctx, c.Dirs, done); err != nil {
		return nil, err
	}
	for _, f := range c.Files {
		done.Files = append(done.Files, f)
		if err := k.write(ctx, f); err != nil {
			return nil, err
		}
	}
	m, err := k.Reload()
	if err != nil {
		return nil, err
	}
	known := m.Target(c.Jail) != nil
	if c.Prototype {
		known = slices.ContainsFunc(m.Prototypes, func(p *config.Prototype) bool { return p.Name == c.Jail })
	}
	if !known {
		return nil, fmt.Errorf("with its new lines %s is not what it should be: cfgd check tells why", c.Jail)
	}
	problems := slices.DeleteFunc(slices.Clone(m.Problems), func(p conffile.Problem) bool {
		return p.Target != c.Jail
	})
	return problems, k.save(ctx, c)
}

func (k *Creator) dirs(ctx context.Context, dirs []Dir, done *Creation) error {
	if k.Locked == nil {
		k.Locked = func(_ context.Context, f func() error) error { return f() }
	}
	return k.Locked(ctx, func() error {
		for _, d := range dirs {
			done.Dirs = append(done.Dirs, d)
			if err := k.dir(ctx, d); err != nil {
				return err
			}
		}
		return nil
	})
}

// dir makes a directory, or a copy of a tree.
func (k *Creator) dir(ctx context.Context, d Dir) error {
	if err := hostfile.MkdirAll(k.Model.Path(d.Name), 0o755); err != nil || d.From == "" {
		return err
	}
	if _, err := os.Stat(k.Model.Path(d.From)); k.Model.Root != "" && errors.Is(err, fs.ErrNotExist) {
		return nil // with --root fstab may mount what is not there
	}
	if err := overlay.CopyStore(ctx, k.Model.Path(d.From), k.Model.Path(d.Name)); err != nil {
		return err
	}
	top, err := dirfd.Open(k.Model.Path(d.Name), nil)
	if err != nil {
		return err
	}
	defer top.Close()
	return top.SyncTree(ctx, "") // the jail's only copy of its cfg, once it is started
}

// write writes a whole file, or adds lines to one. A missing file is created.
func (k *Creator) write(ctx context.Context, f File) error {
	full := k.Model.Path(f.Name)
	if f.Whole {
		return hostfile.Write(full, []byte(f.Text), 0o644)
	}
	return hostfile.Edit(ctx, k.Model.RunDir(), full, func(old []byte) ([]byte, error) {
		if len(old) > 0 && !bytes.HasSuffix(old, []byte("\n")) {
			old = append(old, '\n')
		}
		return append(old, f.Text...), nil
	})
}

// save saves what changed in the host's etc to its cfg.
func (k *Creator) save(ctx context.Context, c *Creation) error {
	if k.SaveHost == nil {
		return nil
	}
	var errs []error
	for _, f := range c.Files {
		if p, ok := k.inEtc(f.Name); ok {
			errs = append(errs, k.SaveHost(ctx, p))
		}
	}
	return errors.Join(errs...)
}

// inEtc returns a file's path in the host's /etc. A link may lead there, as NanoBSD's /usr/local/etc
// does.
func (k *Creator) inEtc(file string) (string, bool) {
	if p, ok := strings.CutPrefix(file, "/etc/"); ok {
		return p, true
	}
	etc, err := filepath.EvalSymlinks(k.Model.Path("/etc"))
	if err != nil {
		return "", false
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(k.Model.Path(file)))
	if err != nil {
		return "", false
	}
	return strings.CutPrefix(filepath.Join(dir, filepath.Base(file)), etc+"/")
}

// undo removes what exists of a jail, in reverse order. What does not exist is no error, so that an
// interrupted undo can be repeated. With all, snapshots of its datasets and added files in its root are
// removed too.
func (k *Creator) undo(ctx context.Context, c *Creation, all bool) error {
	var errs []error
	for _, f := range slices.Backward(c.Files) {
		errs = append(errs, k.unwrite(ctx, f))
	}
	for _, d := range slices.Backward(c.Datasets) {
		destroy := run.Command("zfs", "destroy", d.Name)
		if all {
			destroy = run.Command("zfs", "destroy", "-r", d.Name)
		}
		errs = append(errs, k.destroy(ctx, d.Name, destroy))
	}
	for _, s := range c.Snapshots {
		errs = append(errs, k.destroy(ctx, s, run.Command("zfs", "destroy", s)))
	}
	for _, d := range c.Dirs {
		errs = append(errs, dirfd.RemoveTree(k.Model.Path(d.Name), nil))
	}
	errs = append(errs, k.removeRoot(c, all))
	errs = append(errs, k.save(ctx, c))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("undo: %w; what was made is listed in %s", err, k.record(c.Jail))
	}
	return hostfile.Remove(k.record(c.Jail))
}

func (k *Creator) unwrite(ctx context.Context, f File) error {
	full := k.Model.Path(f.Name)
	if f.Whole {
		return hostfile.Remove(full)
	}
	return hostfile.Edit(ctx, k.Model.RunDir(), full, func(old []byte) ([]byte, error) {
		return bytes.Replace(old, []byte(f.Text), nil, 1), nil
	})
}

// destroy destroys a dataset or snapshot, if it exists.
func (k *Creator) destroy(ctx context.Context, name string, cmd run.Cmd) error {
	there, err := k.has(ctx, name)
	if err != nil || !there {
		return err
	}
	_, err = k.Run.Run(ctx, cmd)
	return err
}

// removeRoot removes the jail's root, which is a mountpoint and must be empty unless everything is
// removed. With --root the trees themselves are in it.
func (k *Creator) removeRoot(c *Creation, all bool) error {
	root := k.Model.Path(c.Root)
	if all || k.Model.Root != "" {
		return dirfd.RemoveTree(root, nil)
	}
	if err := os.Remove(root); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// unmounted returns an error if something is mounted for the jail.
func (k *Creator) unmounted(c *Creation) error {
	all, err := mount.Below(k.Model.Path(c.Root))
	if err != nil {
		return err
	}
	return c.inUse(all)
}

// inUse returns an error if something is mounted that does not go with the datasets. zfs(8) mounts the
// datasets of a prototype whether its jail runs or not, and zfs destroy unmounts them.
func (c *Creation) inUse(all []mount.Mount) error {
	for _, m := range all {
		// zfs(8) mounts a snapshot when somebody reads it through .zfs, and unmounts it too
		source, _, _ := strings.Cut(m.Source, "@")
		own := func(d Dataset) bool { return m.Type == "zfs" && source == d.Name && d.Mountpoint != "" }
		if !slices.ContainsFunc(c.Datasets, own) {
			return fmt.Errorf("%s is mounted: stop the jail first", m.Dir)
		}
	}
	return nil
}

// ErrAdded reports that a jail has more than was made for it.
var ErrAdded = errors.New("something was added since")

// Created reads what was made for a jail.
func (k *Creator) Created(name string) (*Creation, error) {
	b, err := hostfile.ReadFile(k.record(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf(
			"%s was not made by cfgd jail create or clone: it is not undone by cfgd either", name,
		)
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

// Destroy undoes what Create made. Without force it refuses if more was added since: another line in the
// fstab or among the lines that define the jail, a dataset, a snapshot, or a file in its root. It checks
// all of that before it removes anything, and records that it has begun: an interrupted destroy is
// continued.
func (k *Creator) Destroy(ctx context.Context, c *Creation, force bool) error {
	unlock, err := k.lock(ctx, c)
	if err != nil {
		return err
	}
	defer unlock()
	if c, err = k.Created(c.Jail); err != nil { // another process may have destroyed it
		return err
	}
	if err := k.unused(c); err != nil {
		return err
	}
	if err := k.unmounted(c); err != nil {
		return err
	}
	if !force && !c.Undoing {
		if err := k.unchanged(ctx, c); err != nil {
			return fmt.Errorf("%w; --force destroys it all the same", err)
		}
	}
	c.Undoing = true
	if err := k.note(c); err != nil {
		return err
	}
	return k.undo(ctx, c, force)
}

// unused returns an error if jails use the prototype.
func (k *Creator) unused(c *Creation) error {
	if !c.Prototype {
		return nil
	}
	m, err := k.Reload() // a jail may have been made on it while this waited
	if err != nil {
		return err
	}
	refs, err := m.References()
	if err != nil {
		return err
	}
	for _, p := range m.Prototypes {
		for _, r := range refs {
			if p.Name == c.Jail && p.Has(r.Snapshot) {
				return fmt.Errorf("%s names a snapshot of it: destroy jail %s first", r.At, r.Jail)
			}
		}
	}
	return nil
}

func (k *Creator) unchanged(ctx context.Context, c *Creation) error {
	for _, f := range c.Files {
		now, err := hostfile.ReadFile(k.Model.Path(f.Name))
		if err != nil {
			return err
		}
		switch {
		case !f.Whole && !bytes.Contains(now, []byte(f.Text)):
			return fmt.Errorf("%s: the lines of %s are not as they were written: %w", f.Name, c.Jail,
				ErrAdded)
		case f.Whole && string(now) != f.Text && !sameFstab(string(now), f.Text):
			return fmt.Errorf("%s: %w", f.Name, ErrAdded)
		}
	}
	known := map[string]bool{}
	for _, d := range c.Datasets {
		known[d.Name] = true
	}
	for _, d := range c.Datasets {
		out, err := k.Run.Run(ctx, run.Command("zfs", "list", "-Hr", "-t", "all", "-o", "name", d.Name))
		if err != nil {
			return err
		}
		for name := range strings.Lines(out) {
			if name = strings.TrimSuffix(name, "\n"); !known[name] {
				return fmt.Errorf("%s: %w", name, ErrAdded)
			}
		}
	}
	return k.bare(c)
}

// bare returns an error if the root holds more than the directories that were made in it. The content of
// a filesystem mounted there goes with that filesystem; with --root a jail's filesystems are trees in its
// root.
func (k *Creator) bare(c *Creation) error {
	if k.Model.Root != "" && !c.Prototype || slices.ContainsFunc(c.Datasets, func(d Dataset) bool {
		return d.Mountpoint == c.Root
	}) {
		return nil
	}
	made := map[string]bool{c.Root: true}
	for _, d := range c.Dirs {
		for name := d.Name; strings.HasPrefix(name, c.Root+"/"); name = path.Dir(name) {
			made[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(made)) {
		list, err := os.ReadDir(k.Model.Path(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		for _, e := range list {
			if in := path.Join(name, e.Name()); !made[in] {
				return fmt.Errorf("%s: %w", in, ErrAdded)
			}
		}
	}
	return nil
}

// sameFstab reports whether two fstabs are equal except for the snapshots that they name: jail switch
// changes those.
func sameFstab(a, b string) bool {
	plain := func(text string) (out []string, ok bool) {
		entries, err := fstab.ParseJail("", []byte(text))
		for _, e := range entries {
			source := e.Source
			if s, ok := config.ParseSnapshot(source); ok {
				source = s.At("").String()
			}
			out = append(
				out, strings.Join([]string{source, e.Dir, e.Type, strings.Join(e.Options, ",")}, " "),
			)
		}
		return out, err == nil
	}
	x, okA := plain(a)
	y, okB := plain(b)
	return okA && okB && slices.Equal(x, y)
}
