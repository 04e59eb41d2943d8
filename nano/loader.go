package nano

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"cfgd/internal/disk"
	"cfgd/internal/esp"
	"cfgd/internal/run"
	"cfgd/internal/ufs"
)

// loaders are the loaders on a disk.
type loaders struct {
	*Table
	r disk.Device // the disk
}

// find finds out which loader boots the disk, and what it boots next. The table does not tell it all, so it
// looks at the EFI system partition and at the boot method of the machine, which is "" if it is not known.
func (l loaders) find(method string) {
	l.tell(method)
	if l.Honours() == disk.Nothing {
		l.findNext()
	}
}

// tell tells the loader. If there are loaders for both boot methods, and the method is not known, the loader
// is known only if both honour bootonce.
func (l loaders) tell(method string) {
	r, t := l.r, l.Table.Table
	loader, found := l.efi()
	if !found {
		if method == "UEFI" { // the loader is on another disk, or came over the network
			t.Loader = disk.Unknown
			return
		}
		t.Loader = biosLoader(r, t)
		return
	}
	bios := biosLoader(r, t)
	switch {
	case method == "BIOS":
		t.Loader = bios
	case method == "UEFI" || t.Scheme == "GPT" && !hasType(t, "freebsd-boot"):
		t.Loader = loader
	case bios == disk.GPTBoot && loader == disk.GPTBootEFI: // both honour bootonce
		t.Loader = bios
	default:
		t.Loader = disk.Unknown
	}
}

// efi returns the loader in the EFI system partitions, or false if there is no such partition. If there
// are several with different loaders, it is not known which one the firmware starts.
func (l loaders) efi() (loader disk.Loader, found bool) {
	r, t := l.r, l.Table
	for _, s := range t.Slices {
		if s.Type != "efi" {
			continue
		}
		x, err := esp.Loader(&part{r, s.Start, s.Size}, s.Size)
		if err != nil {
			t.Notes = append(t.Notes, fmt.Sprintf("%s: %v", t.disk.Name(s.Index), err))
		}
		if found && x != loader {
			x = disk.Unknown
		}
		loader, found = x, true
	}
	return loader, found
}

// findNext finds the slice that is booted by a loader that ignores the attributes in the table: the slice
// that loader.env names, or else the first one that holds what the loader looks for.
func (l loaders) findNext() {
	r, t := l.r, l.Table
	named := map[string]bool{}
	for _, s := range t.Slices {
		if s.Type != "efi" || t.Loader != disk.LoaderEFI {
			continue
		}
		device, err := esp.RootDevice(&part{r, s.Start, s.Size}, s.Size)
		if err != nil {
			t.Unsure = append(t.Unsure,
				fmt.Sprintf("%s: loader.env cannot be read: %v", t.disk.Name(s.Index), err))
			return
		}
		named[device] = true
	}
	all := len(named)
	delete(named, "")
	switch devices := slices.Sorted(maps.Keys(named)); {
	case all > 1 && len(devices) > 0:
		t.Unsure = append(t.Unsure,
			"loader.env says "+devices[0]+" in one EFI system partition, and something else "+
				"in another one")
	case len(devices) > 0:
		l.takeNamed(devices[0])
	default:
		t.Found, t.First = l.firstSystem(), true
	}
}

// rootDisk matches the name of a partition in the loader: disk_parsedev of stand/common/disk.c. The loader
// numbers the disks as the firmware does.
var rootDisk = regexp.MustCompile(`^rootdev=disk[0-9]+([sp])([0-9]{1,3})[a-h]?:?$`)

// takeNamed takes the slice that loader.env names.
func (l loaders) takeNamed(device string) {
	t := l.Table
	letter := "s"
	if t.Scheme == "GPT" {
		letter = "p"
	}
	if f := rootDisk.FindStringSubmatch(device); f != nil && f[1] == letter {
		n, _ := strconv.Atoi(f[2])
		if _, ok := t.Slice(n); ok {
			t.Found = n
			t.Unsure = append(t.Unsure,
				fmt.Sprintf("loader.env says %s, which is taken for %s", device, t.disk.Name(n)))
			return
		}
	}
	t.Unsure = append(t.Unsure, fmt.Sprintf("loader.env says %q: which slice that is, is not known", device))
}

// wants are the files that a loader looks for. It boots the first partition that has one of them: see
// sanity_check_currdev of stand/efi/loader/main.c, and load_loader of stand/efi/boot1/proto.c.
var wants = map[disk.Loader][]string{
	disk.LoaderEFI: {"boot/defaults/loader.conf", "boot/kernel/kernel"},
	disk.Boot1EFI:  {"boot/loader.efi"},
}

// firstSystem returns the first slice that has what the loader looks for. It returns 0 if there is none, if a
// slice before it can't be read, or if there is a ZFS pool, which the loader may take first.
func (l loaders) firstSystem() int {
	r, t := l.r, l.Table
	if hasType(t.Table, "freebsd-zfs") {
		return 0
	}
	for _, s := range t.Slices {
		if s.Type != "freebsd-ufs" && s.Type != "freebsd" {
			continue
		}
		fsys, err := filesystem(&part{r, s.Start, s.Size}, s.Size)
		if errors.Is(err, ufs.ErrFormat) || errors.Is(err, disk.ErrTable) || errors.Is(err, ErrImage) {
			continue // the loader can't read it either
		}
		if err != nil {
			t.Unsure = append(t.Unsure, fmt.Sprintf("%s: %v", t.disk.Name(s.Index), err))
			return 0
		}
		for _, name := range wants[t.Loader] {
			_, err := fsys.Stat(name)
			if err == nil {
				return s.Index
			}
			if !errors.Is(err, fs.ErrNotExist) {
				t.Unsure = append(t.Unsure, fmt.Sprintf("%s: /%s: %v", t.disk.Name(s.Index), name, err))
				return 0
			}
		}
	}
	return 0
}

// bootMethod tells how the machine was booted, BIOS or UEFI; "" if it is not known. Only x86 has the choice
// and the sysctl(8): sys/amd64/amd64/machdep.c.
func (d *Disk) bootMethod(ctx context.Context) string {
	if !d.Command {
		return ""
	}
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "386" {
		return "UEFI"
	}
	out, err := d.Run.Run(ctx, run.Command("sysctl", "-n", "machdep.bootmethod"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(out)
}

func hasType(t *disk.Table, name string) bool {
	for _, s := range t.Slices {
		if s.Type == name {
			return true
		}
	}
	return false
}

// maxBootCode bounds how many bytes of a freebsd-boot partition are read. pmbr(8) loads at most 545 KiB of
// it.
const maxBootCode = 545 << 10

// biosLoader returns the loader that a BIOS boots. Whether a freebsd-boot partition holds gptboot, gptzfsboot
// or nothing is told by the name in it (BOOTPROG of stand/i386/gptboot/Makefile).
func biosLoader(r io.ReaderAt, t *disk.Table) disk.Loader {
	for _, s := range t.Slices {
		if t.Scheme != "GPT" || s.Type != "freebsd-boot" {
			continue
		}
		b := make([]byte, min(s.Size, maxBootCode)/sector*sector)
		if _, err := r.ReadAt(b, s.Start); err != nil || !bytes.Contains(b, []byte("gptboot")) {
			return disk.Unknown
		}
		return disk.GPTBoot
	}
	return t.Loader
}
