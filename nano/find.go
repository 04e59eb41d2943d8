package nano

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/internal/disk"
	"cfgd/internal/run"
)

// ErrNoDisk is the error if no disk, or more than one, has the label that fstab names.
var ErrNoDisk = errors.New("the disk cannot be found")

// Find finds the disk below a directory of devices, by its name or by the label that fstab mounts on /.
// Afterwards Nano has the disk's own names, which gpart(8) and diskinfo(8) know, and Layout has the names of
// fstab.
func (d *Disk) Find(ctx context.Context, dev string) error {
	d.Layout = d.Nano
	if d.Layout.Label() == "" {
		d.File = filepath.Join(dev, filepath.FromSlash(d.Drive))
		return nil
	}
	label := strings.TrimPrefix(d.Layout.Source(d.Layout.Running), "/dev/")
	var found []config.Nano
	var err error
	if d.Command {
		found, err = byGlabel(ctx, d.Run, label)
	} else {
		found, err = inFiles(d.Root, dev, label)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", d.Origin, err)
	}
	if len(found) != 1 {
		return fmt.Errorf("%s: %w: %s", d.Origin, ErrNoDisk, several(label, dev, found))
	}
	x := found[0]
	d.Drive, d.Kind, d.Part, d.Running = x.Drive, x.Kind, x.Part, x.Running
	d.File = filepath.Join(dev, filepath.FromSlash(d.Drive))
	return nil
}

func several(label, dev string, found []config.Nano) string {
	if len(found) == 0 {
		return fmt.Sprintf("none below %s holds %s", dev, label)
	}
	var all []string
	for _, n := range found {
		all = append(all, fmt.Sprintf("%s%s%d", n.Drive, n.Kind, n.Running))
	}
	return fmt.Sprintf("%s all have the label %s", strings.Join(all, " and "), label)
}

// byGlabel asks glabel(8) which disk has the label. With -s it prints one line for each label, without a
// header: the name, the state, and the provider that has it (status_one_geom_prs of sbin/geom/core/geom.c). A
// blank in a label is printed as %20 (g_label_mangle_name of sys/geom/label/g_label.c).
func byGlabel(ctx context.Context, r run.Runner, label string) ([]config.Nano, error) {
	out, err := r.Run(ctx, run.Command("glabel", "status", "-s"))
	if err != nil {
		return nil, err
	}
	var found []config.Nano
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != label {
			continue
		}
		n := config.NanoSource("/dev/"+f[2], "")
		if n == nil || n.Label() != "" {
			return nil, fmt.Errorf("%w: %s is on %s, which is no slice of a disk", ErrNoDisk, label, f[2])
		}
		found = append(found, *n)
	}
	return found, nil
}

// inFiles looks for the label in the files that stand for disks.
func inFiles(root, dev, label string) ([]config.Nano, error) {
	f, err := openBelow(root, dev, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !e.Type().IsRegular() })
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	if len(entries) == 0 {
		return nil, fmt.Errorf("%s: no file that stands for a disk: %w", dev, fs.ErrNotExist)
	}
	var found []config.Nano
	for _, e := range entries {
		n, err := inFile(root, filepath.Join(dev, e.Name()), label)
		if err != nil {
			return nil, err
		}
		for _, x := range n {
			x.Drive = e.Name()
			found = append(found, x)
		}
	}
	return found, nil
}

// inFile looks at the slices of one disk: at the labels of the slices for gpt, at those of their filesystems
// for ufs. A file without a table is no disk.
func inFile(root, file, label string) ([]config.Nano, error) {
	f, err := openBelow(root, file, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	t, err := disk.Read(f, st.Size())
	if errors.Is(err, disk.ErrTable) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	kind := "s"
	if t.Scheme == "GPT" {
		kind = "p"
	}
	var found []config.Nano
	for _, s := range t.Slices {
		has := label == "gpt/"+s.Label
		if name, ok := strings.CutPrefix(label, "ufs/"); ok && isCode(t, s) {
			fsys, err := filesystem(&part{f, s.Start, s.Size}, s.Size)
			has = err == nil && fsys.Label == name
		}
		if has {
			found = append(found, config.Nano{Kind: kind, Running: s.Index})
		}
	}
	return found, nil
}

// NoHost reports whether an error of Model.Nano or Find means that there is no disk of a NanoBSD host here,
// or that its configuration is wrong, which cfgd check reports.
func NoHost(err error) bool {
	var ce *conffile.Error
	return errors.As(err, &ce)
}

// NextProblems returns the problem of a slice that boots next and cannot boot.
func NextProblems(n *config.Nano, all []Slice, t *Table) []conffile.Problem {
	x := broken(all, t)
	if x == nil {
		return nil
	}
	return []conffile.Problem{conffile.Warn(conffile.NanoNext, n.Origin, config.HostName, x.Settle,
		"%s boots next, and cannot boot: %s", x.Slice, x.Why)}
}

// Problems turns an error about the disk of a NanoBSD host into a problem of its set-up. Only root may
// read the disk, so a user who may not gets none. With embedded, which is --root, there need not be a
// disk.
func Problems(n *config.Nano, err error, embedded bool) []conffile.Problem {
	if err == nil || errors.Is(err, fs.ErrPermission) || embedded && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return []conffile.Problem{conffile.Warn(conffile.NanoUnserved, n.Origin, config.HostName,
		"make fstab and "+n.Conf.String()+" name the disk that the machine runs from",
		"cfgd nano does not serve this machine: %s",
		strings.TrimPrefix(err.Error(), n.Origin.String()+": "))}
}
