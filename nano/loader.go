package nano

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"

	"cfgd/internal/disk"
	"cfgd/internal/esp"
	"cfgd/internal/run"
)

// findLoader finds out what boots the disk, as far as its table does not say it: what is in its EFI system
// partition, and which way the machine took. Where both ways are there and nobody knows which one the machine
// takes, the loader is known only if both heed bootonce.
func (m *Machine) findLoader(ctx context.Context, r region, t *disk.Table) {
	var efi *disk.Slice
	for i, s := range t.Slices {
		if s.Type == "efi" && efi == nil {
			efi = &t.Slices[i]
		}
	}
	method := m.bootMethod(ctx)
	if efi == nil {
		if method == "UEFI" { // a loader that is on another disk, or came over the network
			t.Loader = disk.Unknown
			return
		}
		t.Loader = biosLoader(r, t)
		return
	}
	loader, err := esp.Loader(&part{r, efi.Start, efi.Size}, efi.Size)
	if err != nil {
		t.Notes = append(t.Notes, fmt.Sprintf("%s: %v", m.Name(efi.Index), err))
	}
	bios := biosLoader(r, t)
	switch {
	case method == "BIOS":
		t.Loader = bios
	case method == "UEFI" || t.Scheme == "GPT" && !hasType(t, "freebsd-boot"):
		t.Loader = loader
	case bios == disk.GPTBoot && loader == disk.GPTBootEFI: // both heed it
		t.Loader = bios
	default:
		t.Loader = disk.Unknown
	}
}

// bootMethod is how the machine came up, BIOS or UEFI, "" where nobody knows. Only x86 has the choice, and
// the sysctl(8): sys/amd64/amd64/machdep.c.
func (m *Machine) bootMethod(ctx context.Context) string {
	if !m.Command {
		return ""
	}
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "386" {
		return "UEFI"
	}
	out, err := m.Run.Run(ctx, run.Command("sysctl", "-n", "machdep.bootmethod"))
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

// maxBootCode bounds what is read of a freebsd-boot partition: pmbr(8) loads no more than 545 KiB of it.
const maxBootCode = 545 << 10

// biosLoader is what a BIOS boots. That a freebsd-boot partition holds gptboot, and not gptzfsboot or
// nothing, its name in it tells (BOOTPROG of stand/i386/gptboot/Makefile).
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
