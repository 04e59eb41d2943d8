package nano

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"cfgd/internal/disk"
	"cfgd/internal/run"
)

// machineFiles are the files in a system's slice that belong to the machine and not to the image. They have
// settings of its loaders, such as a serial console.
var machineFiles = []string{"boot/loader.conf.local", "boot.config"}

// maxMachineFile bounds their size in bytes: they have a few lines.
const maxMachineFile = 1 << 20

// carry copies the running system's files into the slice that was written, unless the files there are the
// same. It mounts the slice on a directory below RunDir, and runs fsck_ffs(8) on it afterwards. After
// an error it is not known what the slice holds, and it must not boot next.
func (i *installation) carry(ctx context.Context) ([]string, error) {
	want, err := i.toCarry(ctx)
	if err != nil || len(want) == 0 {
		return nil, err
	}
	if !i.disk.Command {
		return nil, fmt.Errorf("/%s of the running system is not in the image as it is here, "+
			"and a disk that is a file is not mounted", want[0])
	}
	device, err := i.device(ctx)
	if err != nil {
		return nil, err
	}
	return want, i.disk.carryInto(ctx, device, want)
}

// carryInto copies files into the filesystem of a device. It unmounts the device in any case.
func (d *Disk) carryInto(ctx context.Context, device string, names []string) error {
	dir := d.mountpoint()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	_, err := d.Run.Run(ctx, run.Command("mount", "-t", "ufs", device, dir))
	if err == nil {
		err = copyAll(d.Root, names, dir)
	}
	// a mount(8) that was interrupted may have mounted it
	if uerr := d.sweep(ctx); err != nil || uerr != nil {
		return errors.Join(err, uerr)
	}
	out, err := d.Run.Run(ctx, run.Command("fsck_ffs", "-n", device))
	if err != nil {
		return err
	}
	return consistent(device, out)
}

func (d *Disk) mountpoint() string { return filepath.Join(d.RunDir, "nano.mnt") }

// sweep unmounts what is mounted on the directory of carryInto, even if ctx has ended, and even if a process
// that was killed left it. The caller holds the lock of the disk.
func (d *Disk) sweep(ctx context.Context) error {
	dir, err := filepath.EvalSymlinks(d.mountpoint())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	mounts, err := d.MountedOn(dir)
	if err != nil {
		return fmt.Errorf("mounts on %s: %w", dir, err)
	}
	for _, x := range mounts {
		if _, err := d.Run.Run(context.WithoutCancel(ctx), run.Command("umount", dir)); err != nil {
			return fmt.Errorf("%s is mounted on %s, and cannot be unmounted: %w; run umount %[2]s", x.Source,
				dir, err)
		}
	}
	_ = os.Remove(dir) // if it can't be removed, it is used again
	return nil
}

// troubles matches what fsck_ffs(8) of FreeBSD 13.2 and 15 prints about a filesystem that is not consistent.
// The exit status does not tell it: with -n it is 0 even if fsck_ffs answered all of its questions with no
// (reply of sbin/fsck_ffs/fsutil.c; checkfilesys of main.c). Only CONTINUE, after a block that can't be read,
// is answered with yes.
var troubles = regexp.MustCompile(`(?m)^.*\? (?:no|yes)\s*$` +
	`|^.*(?:UNEXPECTED|PLEASE RERUN FSCK|FILE SYSTEM (?:STILL|MARKED) DIRTY|CANNOT|` +
	`CHECK.HASH|CAN'T CHECK).*$`)

// consistent returns an error if the output of fsck_ffs -n says that a filesystem is not consistent.
func consistent(device, output string) error {
	if line := troubles.FindString(output); line != "" {
		return fmt.Errorf("fsck_ffs -n %s says %q: the filesystem is not consistent", device,
			strings.TrimSpace(line))
	}
	return nil
}

// device returns the device of the filesystem in the slice.
func (i *installation) device(ctx context.Context) (string, error) {
	s := i.done.Slice
	f, _, err := i.disk.open(ctx, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	fsys, err := filesystem(&part{f, s.Start, s.Size}, s.Size)
	if err != nil {
		return "", err
	}
	name := "/dev/" + s.Name
	if fsys.labelled {
		name += "a"
	}
	return name, nil
}

// toCarry returns the files of the running system that the system in the slice lacks, or has with another
// content.
func (i *installation) toCarry(ctx context.Context) ([]string, error) {
	root, err := os.OpenRoot(i.disk.Root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, _, err := i.disk.open(ctx, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var all []string
	for _, name := range machineFiles {
		mine, err := readSmall(root, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("/%s of the running system: %w", name, err)
		}
		theirs, err := readInSlice(f, &i.done.Slice, name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("/%s of the image: %w", name, err)
		}
		if err != nil || !bytes.Equal(mine, theirs) {
			all = append(all, name)
		}
	}
	return all, nil
}

func readSmall(root *os.Root, name string) ([]byte, error) {
	st, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxMachineFile {
		return nil, fmt.Errorf("no regular file of at most %d bytes", maxMachineFile)
	}
	return root.ReadFile(name)
}

// readInSlice reads a file of the system in a slice of a disk.
func readInSlice(disk disk.Device, s *Slice, name string) ([]byte, error) {
	fsys, err := filesystem(&part{disk, s.Start, s.Size}, s.Size)
	if err != nil {
		return nil, err
	}
	e, err := fsys.Stat(name)
	if err != nil {
		return nil, err
	}
	in, err := fsys.Open(e)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(in, maxMachineFile))
}

func copyAll(root string, names []string, dir string) error {
	from, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenRoot(dir) // no link of the image leads out of it
	if err != nil {
		return err
	}
	defer to.Close()
	for _, name := range names {
		if err := copyDurable(from, to, name); err != nil {
			return fmt.Errorf("/%s could not be carried over: %w", name, err)
		}
	}
	return nil
}

// copyDurable copies a file with its mode, owner and time. The order: write a temporary file and bring it to
// stable storage; rename it; bring the directory to stable storage. If this is interrupted, the name has the
// old file or the new one.
func copyDurable(from, to *os.Root, name string) error {
	content, err := readSmall(from, name)
	if err != nil {
		return err
	}
	st, err := from.Stat(name)
	if err != nil {
		return err
	}
	tmp := path.Join(path.Dir(name), ".cfgd-carry")
	if err := to.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := to.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, to.Remove(tmp))
	}
	if err := errors.Join(sameOwner(f, st), f.Chmod(st.Mode().Perm()), f.Sync(), f.Close()); err != nil {
		return errors.Join(err, to.Remove(tmp))
	}
	if err := errors.Join(to.Chtimes(tmp, time.Time{}, st.ModTime()), to.Rename(tmp, name)); err != nil {
		return errors.Join(err, to.Remove(tmp))
	}
	dir, err := to.Open(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// sameOwner gives a file the owner of another one, if that is possible.
func sameOwner(f *os.File, st fs.FileInfo) error {
	x, ok := st.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return f.Chown(int(x.Uid), int(x.Gid))
}
