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

// loaderTexts are texts that identify FreeBSD's loaders, in the order in which they are searched for:
// gptboot.efi is boot1.efi with gptboot's choice built in.
var loaderTexts = []struct {
	text   string
	loader disk.Loader
}{
	// BOOTPROG of stand/efi/gptboot/Makefile, in what proto.c prints
	{"gptboot.efi", disk.GPTBootEFI},
	{"FreeBSD EFI boot block", disk.Boot1EFI},  // stand/efi/boot1/boot1.c
	{" EFI loader, Revision ", disk.LoaderEFI}, // bootprog_info of stand/common/newvers.sh
}

// dirs are the directories in which firmware finds a loader: where it looks by default, and where
// FreeBSD's installer puts one and registers it (loader.efi(8), uefi(8)).
var dirs = []string{"EFI/BOOT", "EFI/FREEBSD"}

// maxPrograms bounds what is read: entries of a hostile partition may all name the same clusters.
const maxPrograms = 16

// Loader returns the loader in an EFI system partition. If several different ones exist, it is not known
// which one the firmware starts.
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
			found[identify(b)] = true
		}
	}
	for l := range found {
		if len(found) == 1 {
			return l, nil
		}
	}
	return disk.Unknown, nil
}

// identify identifies a loader by its texts. Every loader begins like an EFI program.
func identify(b []byte) disk.Loader {
	if !bytes.HasPrefix(b, []byte("MZ")) {
		return disk.Unknown
	}
	for _, m := range loaderTexts {
		if bytes.Contains(b, []byte(m.text)) {
			return m.loader
		}
	}
	return disk.Unknown
}

// envFile is the file that loader.efi reads before it chooses a slice: read_loader_env of
// stand/efi/loader/main.c. The firmware's variable LoaderEnv may name another file.
const envFile = "EFI/FREEBSD/LOADER.ENV"

// RootDevice returns the device that loader.env sets for the loader, as "rootdev=disk0p3:" or, by the
// firmware's name, as "uefi_rootdev=..."; "" if it sets none.
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

// rootDevice parses the text as boot_parse_cmdline of sys/kern/subr_boot.c does: words are separated by
// spaces, tabs and newlines; a word that begins with - has options; the last one of a name counts; the
// text ends at a NUL. rootdev comes before uefi_rootdev (find_currdev of stand/efi/loader/main.c).
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
