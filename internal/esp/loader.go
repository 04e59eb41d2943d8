package esp

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"cfgd/internal/disk"
)

// marks are texts by which FreeBSD's loaders are told, in the order in which they are looked for: gptboot.efi
// is boot1.efi with gptboot's choice built in.
var marks = []struct {
	text   string
	loader disk.Loader
}{
	// BOOTPROG of stand/efi/gptboot/Makefile, in what proto.c prints
	{"gptboot.efi", disk.GPTBootEFI},
	{"FreeBSD EFI boot block", disk.Boot1EFI},  // stand/efi/boot1/boot1.c
	{" EFI loader, Revision ", disk.LoaderEFI}, // bootprog_info of stand/common/newvers.sh
}

// dirs are where firmware finds a loader: where it looks by itself, and where FreeBSD's installer puts one
// for it to be told (loader.efi(8), uefi(8)).
var dirs = []string{"EFI/BOOT", "EFI/FREEBSD"}

// maxPrograms bounds what is read: entries of a hostile partition may all name the same clusters.
const maxPrograms = 16

// Loader is the loader in an EFI system partition. Where there are several and they are not the same, it is
// not known which one the firmware starts.
func Loader(r io.ReaderAt, size int64) (disk.Loader, error) {
	f, err := Open(r, size)
	if err != nil {
		return disk.Unknown, err
	}
	found, programs := map[disk.Loader]bool{}, 0
	for _, dir := range dirs {
		all, err := f.List(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return disk.Unknown, err
		}
		for _, e := range all {
			if e.Dir || !strings.HasSuffix(strings.ToUpper(e.Name), ".EFI") {
				continue
			}
			if programs++; programs > maxPrograms {
				return disk.Unknown, bad("more than %d programs", maxPrograms)
			}
			b, err := f.Read(e)
			if err != nil {
				return disk.Unknown, err
			}
			found[tell(b)] = true
		}
	}
	for l := range found {
		if len(found) == 1 {
			return l, nil
		}
	}
	return disk.Unknown, nil
}

// tell tells a loader by its texts. Each begins as a program of EFI does.
func tell(b []byte) disk.Loader {
	if !bytes.HasPrefix(b, []byte("MZ")) {
		return disk.Unknown
	}
	for _, m := range marks {
		if bytes.Contains(b, []byte(m.text)) {
			return m.loader
		}
	}
	return disk.Unknown
}

// envFile is what loader.efi reads before it chooses a slice: read_loader_env of stand/efi/loader/main.c. The
// firmware's variable LoaderEnv may name another file.
const envFile = "EFI/FREEBSD/LOADER.ENV"

// RootDevice is the device that loader.env sets for the loader, as "rootdev=disk0p3:" or, by the name of the
// firmware, as "uefi_rootdev=..."; "" if it sets none.
func RootDevice(r io.ReaderAt, size int64) (string, error) {
	f, err := Open(r, size)
	if err != nil {
		return "", err
	}
	all, err := f.List(path.Dir(envFile))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	e, ok := named(all, path.Base(envFile))
	if !ok || e.Size == 0 {
		return "", nil
	}
	b, err := f.Read(e)
	if err != nil {
		return "", err
	}
	return rootDevice(string(b)), nil
}

// rootDevice splits the text as boot_parse_cmdline of sys/kern/subr_boot.c does: words are set apart by
// blanks, tabs and newlines; a word with - at its beginning is of options; the last one of a name counts; and
// the text ends with a NUL. rootdev comes before uefi_rootdev (find_currdev of stand/efi/loader/main.c).
func rootDevice(text string) string {
	text, _, _ = strings.Cut(text, "\x00")
	set := map[string]string{}
	blank := func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' }
	for _, word := range strings.FieldsFunc(text, blank) {
		name, value, has := strings.Cut(word, "=")
		if !has {
			value = "1"
		}
		set[name] = value
	}
	for _, name := range []string{"rootdev", "uefi_rootdev"} {
		if value, ok := set[name]; ok {
			return name + "=" + value
		}
	}
	return ""
}
