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
	"time"

	"cfgd/internal/run"
)

// machineFiles are what of a system's slice belongs to the machine and not to the image: what its loaders are
// told, such as which console is a serial line.
var machineFiles = []string{"boot/loader.conf.local", "boot.config"}

// maxMachineFile bounds them: they are a few lines.
const maxMachineFile = 1 << 20

// carry copies the running system's files into a slice that was written and is whole, where that has others
// or none. The slice is mounted for it, on a directory of its own, and looked at by fsck_ffs(8) afterwards.
// What fails leaves the slice as it may be: it must not boot next.
func (m *Machine) carry(ctx context.Context, s *Slice) ([]string, error) {
	want, err := m.toCarry(ctx, s)
	if err != nil || len(want) == 0 {
		return nil, err
	}
	if !m.Command {
		return nil, fmt.Errorf("/%s of the running system is not in the image as it is here, "+
			"and a disk that is a file is not mounted", want[0])
	}
	device, err := m.device(ctx, s)
	if err != nil {
		return nil, err
	}
	return want, m.carryInto(ctx, device, want)
}

// carryInto copies files into the filesystem of a device. It is unmounted whatever happens.
func (m *Machine) carryInto(ctx context.Context, device string, names []string) error {
	dir := filepath.Join(m.RunDir, "nano.mnt")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if _, err := m.Run.Run(ctx, run.Command("mount", "-t", "ufs", device, dir)); err != nil {
		return err
	}
	err := m.copyAll(names, dir)
	_, uerr := m.Run.Run(context.WithoutCancel(ctx), run.Command("umount", dir))
	if err != nil || uerr != nil {
		return errors.Join(err, uerr)
	}
	_ = os.Remove(dir) // one that is left is used again
	_, err = m.Run.Run(ctx, run.Command("fsck_ffs", "-n", device))
	return err
}

// device is that of the filesystem in a slice.
func (m *Machine) device(ctx context.Context, s *Slice) (string, error) {
	f, _, err := m.open(ctx, os.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, base, err := filesystem(&part{f, s.Start, s.Size}, s.Size)
	if err != nil {
		return "", err
	}
	name := "/dev/" + s.Name
	if base > 0 {
		name += "a"
	}
	return name, nil
}

// toCarry are the files of the running system that the one in a slice has not, or has otherwise.
func (m *Machine) toCarry(ctx context.Context, s *Slice) ([]string, error) {
	root, err := os.OpenRoot(m.Root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, _, err := m.open(ctx, os.O_RDONLY)
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
		theirs, err := m.inSlice(f, s, name)
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

// inSlice reads a file of the system in a slice.
func (m *Machine) inSlice(disk region, s *Slice, name string) ([]byte, error) {
	fsys, _, err := filesystem(&part{disk, s.Start, s.Size}, s.Size)
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

func (m *Machine) copyAll(names []string, dir string) error {
	from, err := os.OpenRoot(m.Root)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenRoot(dir) // a link of the image leads nowhere else
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

// copyDurable copies a file with its mode, owner and time. The order: a temporary is written and brought to
// stable storage; it takes the name; the directory is brought to stable storage. Cut short, the name has the
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
