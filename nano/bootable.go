package nano

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"cfgd/internal/disk"
	"cfgd/internal/ufs"
)

// starts are the files by which a loader starts a system. The first existing one of each list counts.
var starts = map[disk.Loader][]string{
	disk.Boot0: {"boot/loader"}, disk.PlainMBR: {"boot/loader"}, disk.GPTBoot: {"boot/loader"},
	disk.GPTBootEFI: {"boot/loader.efi"}, disk.Boot1EFI: {"boot/loader.efi"},
	disk.LoaderEFI: {"boot/defaults/loader.conf"}, disk.Unknown: {"boot/loader", "boot/loader.efi"},
}

// bootConfigs may name another file to start than /boot/loader: boot(8).
var bootConfigs = []string{"boot/config", "boot.config"}

// lacks tells what a system lacks to be booted by a loader, in words; "" if it has all.
func lacks(fsys *ufs.FS, l disk.Loader) (string, error) {
	all, err := exists(fsys, starts[l])
	if err == nil && len(all) > 0 && slices.Contains(starts[l], "boot/loader") {
		var none []string
		if none, err = exists(fsys, bootConfigs); len(none) == 0 {
			all = nil
		}
	}
	if err != nil {
		return "", err
	}
	ok, err := hasKernel(fsys)
	if err != nil {
		return "", err
	}
	if !ok {
		all = append(all, "no kernel in a directory of /boot")
	}
	return strings.Join(all, ", "), nil
}

// exists returns nothing if one of the files exists, else words that say which do not.
func exists(fsys *ufs.FS, names []string) ([]string, error) {
	for _, name := range names {
		_, err := fsys.Stat(name)
		if err == nil {
			return nil, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("/%s: %w", name, err)
		}
	}
	return []string{"no /" + strings.Join(names, " and no /")}, nil
}

// maxBootNames bounds how many names of /boot are looked at. A hostile image may have any number.
const maxBootNames = 1000

// hasKernel looks for a kernel, plain or packed, in the directories of /boot. loader.conf(5) names the
// directory; it is kernel if nothing is named.
func hasKernel(fsys *ufs.FS) (bool, error) {
	names, err := fsys.Names("boot")
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("/boot: %w", err)
	}
	for _, dir := range names[:min(len(names), maxBootNames)] {
		e, err := fsys.Stat("boot/" + dir)
		if err != nil {
			return false, fmt.Errorf("/boot/%s: %w", dir, err)
		}
		if !e.Mode.IsDir() {
			continue
		}
		files, err := fsys.Names("boot/" + dir)
		if err != nil {
			return false, fmt.Errorf("/boot/%s: %w", dir, err)
		}
		if slices.ContainsFunc(files, func(s string) bool { return s == "kernel" || packedKernel(s) }) {
			return true, nil
		}
	}
	return false, nil
}

// packedKernel reports whether a name is that of a kernel which loader(8) unpacks.
func packedKernel(name string) bool {
	ending, ok := strings.CutPrefix(name, "kernel.")
	return ok && slices.Contains([]string{"gz", "bz2", "zst"}, ending)
}

// CannotBoot is the error for a slice whose system cannot boot.
type CannotBoot struct{ Name, Why string }

func (e *CannotBoot) Error() string { return e.Name + " cannot boot: " + e.Why }

// bootable returns an error if it is known that a slice cannot boot. What runs has booted, and may stay.
func bootable(s *Slice) error {
	if s.Running || s.Image.Trouble == "" {
		return nil
	}
	return &CannotBoot{s.Name, s.Image.Trouble}
}
