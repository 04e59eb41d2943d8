package nano

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/config/conffile"
	"cfgd/internal/disk"
	"cfgd/internal/disk/disktest"
	"cfgd/internal/esp/esptest"
)

// The output of glabel(8) with -s: one line for each provider, with two blanks between the fields.
const glabels = "gpt/efiboot  N/A  ada0p1\n" +
	"gpt/BSDRP1  N/A  ada0p3\n" +
	"gpt/BSDRP2  N/A  ada0p4\n" +
	"gpt/twice1  N/A  ada0p3\n" +
	"gpt/twice1  N/A  da1p3\n" +
	"ufs/BSDs1a  N/A  nvd0s1a\n" +
	"ufs/bare2  N/A  mirror/gm0s2\n" +
	"ufs/disk1  N/A  da5\n" +
	"ufsid/5f4e3d2c1b0a9988  N/A  ada0s1a\n" +
	"diskid/DISK-ABC  N/A  ada0\n"

func TestFindByGlabel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		source, drive string
		want          config.Nano
		file          string
		err           string
	}{
		{"/dev/gpt/BSDRP2", "gpt/BSDRP", config.Nano{Drive: "ada0", Kind: "p", Running: 4}, "/dev/ada0", ""},
		{"/dev/ufs/BSDs1a", "ufs/BSD", config.Nano{Drive: "nvd0", Kind: "s", Part: "a", Running: 1},
			"/dev/nvd0", ""},
		{"/dev/ufs/bare2", "ufs/bare", config.Nano{Drive: "mirror/gm0", Kind: "s", Running: 2},
			"/dev/mirror/gm0", ""},
		{"/dev/nda0p2", "nda0", config.Nano{Drive: "nda0", Kind: "p", Running: 2}, "/dev/nda0", ""},
		{"/dev/gpt/other1", "gpt/other", config.Nano{}, "", "none below /dev holds gpt/other1"},
		{"/dev/gpt/twice1", "gpt/twice", config.Nano{}, "", "ada0p3 and da1p3 all have the label gpt/twice1"},
		{"/dev/ufs/disk1", "ufs/disk", config.Nano{}, "", "ufs/disk1 is on da5, which is no slice of a disk"},
	} {
		n := config.NanoSource(c.source, c.drive)
		m := &Disk{Nano: *n, Command: true, Run: answers{"glabel status -s": glabels}}
		err := m.Find(t.Context(), "/dev")
		if c.err != "" {
			if !errors.Is(err, ErrNoDisk) || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", c.source, err)
			}
			continue
		}
		m.Nano.Origin = conffile.Origin{}
		if err != nil || m.Drive != c.want.Drive || m.Kind != c.want.Kind || m.Part != c.want.Part ||
			m.Running != c.want.Running || m.File != c.file || m.source(m.Running) != c.source {
			t.Errorf("%s: %+v, %s, %v", c.source, m.Nano, m.File, err)
		}
	}
}

// Which loader boots a disk, depending on what is on it and on the boot method.
func TestFindLoader(t *testing.T) {
	t.Parallel()
	const size = 2 << 20
	gpt := func(efi, boot string) []byte {
		d := make([]byte, size)
		parts := []disktest.Slice{{Index: 3, Start: 3000, Count: 400, Active: true},
			{Index: 4, Start: 3400, Count: 400}}
		if efi != "" {
			parts = append(parts, disktest.Slice{Index: 1, Start: 64, Count: 1600, Kind: "efi"})
			copy(d[64*512:], esptest.Make(1600, false,
				map[string][]byte{"EFI/BOOT/BOOTX64.EFI": esptest.Program(efi)}))
		}
		if boot != "" {
			parts = append(parts, disktest.Slice{Index: 2, Start: 1700, Count: 1200, Kind: "freebsd-boot"})
			copy(d[1700*512+3000:], boot)
		}
		disktest.GPT(d, parts...)
		return d
	}
	mbr := make([]byte, size)
	copy(mbr, disktest.MBR(1, disktest.Slice{Index: 1, Start: 64, Count: 1600, Type: 0xef},
		disktest.Slice{Index: 2, Start: 2000, Count: 800, Type: 0xa5, Active: true}, disktest.Slice{
			Index: 3, Start: 2800, Count: 800, Type: 0xa5,
		}))
	copy(mbr[64*512:], esptest.Make(1600, false,
		map[string][]byte{"EFI/BOOT/BOOTX64.EFI": esptest.Program(" EFI loader, Revision 1.1")}))
	for name, c := range map[string]struct {
		disk           []byte
		bios, uefi, no disk.Loader // by machdep.bootmethod
	}{
		"both heed it": {gpt("gptboot.efi", "gptboot"), disk.GPTBoot, disk.GPTBootEFI, disk.GPTBoot},
		"one does": {gpt(" EFI loader, Revision 1.1", "gptboot"), disk.GPTBoot, disk.LoaderEFI,
			disk.Unknown},
		"EFI alone":  {gpt("gptboot.efi", ""), disk.Unknown, disk.GPTBootEFI, disk.GPTBootEFI},
		"BIOS alone": {gpt("", "gptboot"), disk.GPTBoot, disk.Unknown, disk.GPTBoot},
		"neither":    {gpt("", ""), disk.GPTBoot, disk.Unknown, disk.GPTBoot},
		"boot1.efi":  {gpt("FreeBSD EFI boot block", ""), disk.Unknown, disk.Boot1EFI, disk.Boot1EFI},
		"MBR":        {mbr, disk.Boot0, disk.LoaderEFI, disk.Unknown},
	} {
		file := filepath.Join(t.TempDir(), "ada0")
		if err := os.WriteFile(file, c.disk, 0o600); err != nil {
			t.Fatal(err)
		}
		for method, want := range map[string]disk.Loader{"BIOS\n": c.bios, "UEFI\n": c.uefi, "": c.no} {
			if runtime.GOARCH != "amd64" && method == "BIOS\n" {
				continue
			}
			m := &Disk{
				Nano: config.Nano{Drive: "ada0", Kind: "p", Running: 3}, File: file, Command: method != "",
				Run: answers{"sysctl -n machdep.bootmethod": method},
			}
			tab, err := m.Table(t.Context())
			if err != nil || tab.Loader != want {
				t.Errorf("%s, %q: %q, %v; want %q", name, method, tab.Loader, err, want)
			}
		}
	}
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ drive, source, text, want, err string }{
		{"ada0", "/dev/ada0s2a", "/dev/ada0s1a / ufs ro 1 1\n", "/dev/ada0s2a / ufs ro 1 1\n", ""},
		{"ada0", "/dev/ada0s2", "# /\n/dev/ada0s1a / ufs ro 1 1\n", "# /\n/dev/ada0s2  / ufs ro 1 1\n", ""},
		{"gpt/B", "/dev/gpt/B2", "x\n/dev/gpt/B1\t/\tufs\n/dev/gpt/cfg /cfg ufs rw\n",
			"x\n/dev/gpt/B2\t/\tufs\n/dev/gpt/cfg /cfg ufs rw\n", ""},
		{"ufs/B", "/dev/ufs/Bs2a", "/dev/ufs/B1   / ufs ro\n", "/dev/ufs/Bs2a / ufs ro\n", ""},
		{"ufs/B", "/dev/ufs/Bs2a", "/dev/ufs/B1  / ufs ro\n", "", "no room for"},
		{"ada0", "/dev/ada0s10a", "/dev/ada0s1a  / ufs ro\n", "/dev/ada0s10a / ufs ro\n", ""},
		{"ada0", "/dev/ada0s2a", "/dev/ada0s3 /cfg ufs rw\n", "none", ""},
		{"ada0", "/dev/ada0s2a", "/dev/da0s1a / ufs ro\n", "", "its / is /dev/da0s1a, and not of /dev/ada0"},
		{"ada0", "/dev/ada0s2a", "/dev/ada0p1 / ufs ro\n", "", "its / is /dev/ada0p1, and not of /dev/ada0"},
		{"gpt/B", "/dev/gpt/B2", "/dev/gpt/C1 / ufs ro\n", "", "its / is /dev/gpt/C1, and not of /dev/gpt/B"},
	} {
		kind := ""
		if !strings.Contains(c.drive, "/") {
			kind = "s"
		}
		m := &Disk{Nano: config.Nano{Drive: c.drive, Kind: kind}}
		got, ok, err := rewrite(m.layout(), []byte(c.text), c.source)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v", c.text, err)
			}
		case err != nil || ok != (c.want != "none") || ok && string(got) != c.want ||
			!ok && string(got) != c.text:
			t.Errorf("%q: %q, %v, %v", c.text, got, ok, err)
		}
	}
}

// A disk that does not fit the configuration is the same kind of problem as a configuration that is wrong
// by itself.
func TestProblems(t *testing.T) {
	t.Parallel()
	n := &config.Nano{Origin: conffile.At("/etc/fstab", 3), Conf: conffile.At("/etc/nanobsd.conf", 1)}
	other := errors.New("it has no two slices for systems")
	want := conffile.Problem{
		Kind: conffile.NanoUnserved, Severity: conffile.SeverityWarning, File: "/etc/fstab", Line: 3,
		Target: config.HostName, Message: "cfgd nano does not serve this machine: " + other.Error(),
		Fix: "make fstab and /etc/nanobsd.conf:1 name the disk that the machine runs from",
	}
	for name, c := range map[string]struct {
		err      error
		embedded bool
		want     []conffile.Problem
	}{
		"none":               {nil, false, nil},
		"not root":           {fs.ErrPermission, false, nil},
		"no disk":            {fmt.Errorf("%s: %w", n.Origin, other), false, []conffile.Problem{want}},
		"no disk, by itself": {other, true, []conffile.Problem{want}},
		"none below --root":  {fs.ErrNotExist, true, nil},
	} {
		if got := Problems(n, c.err, c.embedded); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
