package nano

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/internal/disk"
	"cfgd/internal/disk/disktest"
	"cfgd/internal/esp/esptest"
)

// ufsOf is a small filesystem with some files.
func ufsOf(t testing.TB, names ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath("makefs"); err != nil {
		t.Skip("no makefs here")
	}
	tree, file := t.TempDir(), filepath.Join(t.TempDir(), "fs")
	for _, name := range names {
		full := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte("x\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("makefs", "-t", "ffs", "-o", "version=2", "-s", "524288", file, tree).CombinedOutput()
	if err != nil {
		t.Fatalf("makefs: %v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// efiDisk is a disk with EFI system partitions and three partitions with UFS: cfg, p5 and p6. More partitions
// come last.
func efiDisk(t testing.TB, esps []map[string][]byte, p4, p5, p6 []byte, more ...disktest.Slice) []byte {
	d := make([]byte, 9000*sector)
	parts := []disktest.Slice{{Index: 4, Start: 3700, Count: 1100, Active: true}, {Index: 5, Start: 4800, Count: 1100},
		{Index: 6, Start: 5900, Count: 1100}}
	for i, files := range esps {
		start := uint32(64 + 1700*i)
		parts = append(parts, disktest.Slice{Index: 1 + i, Start: start, Count: 1600, Kind: "efi"})
		copy(d[start*sector:], esptest.Make(1600, false, files))
	}
	disktest.GPT(d, append(parts, more...)...)
	for i, b := range [][]byte{p4, p5, p6} {
		copy(d[(3700+1100*i)*sector:], b)
	}
	return d
}

const loaderEFI = " EFI loader, Revision 1.1"

// program is an EFI system partition with a loader, and with loader.env if env is not "".
func program(text, env string) map[string][]byte {
	files := map[string][]byte{"EFI/BOOT/BOOTX64.EFI": esptest.Program(text)}
	if env != "" {
		files["EFI/FREEBSD/LOADER.ENV"] = []byte(env)
	}
	return files
}

// Which slice a loader takes that ignores the table's marks: what loader.env names, or the first that holds
// what the loader looks for; and where that is not known, none is named, and it is said.
func TestNextOfLoadersThatHonourNothing(t *testing.T) {
	t.Parallel()
	cfg, system := ufsOf(t, "host/rc.conf"), ufsOf(t, "boot/defaults/loader.conf", "conf/base/etc/fstab")
	kernel, boot1 := ufsOf(t, "boot/kernel/kernel"), ufsOf(t, "boot/loader.efi")
	one := func(text, env string) []map[string][]byte { return []map[string][]byte{program(text, env)} }
	for name, c := range map[string]struct {
		disk  []byte
		next  string
		says  string // in a doubt
		first bool
	}{
		"the first with UFS is cfg":    {efiDisk(t, one(loaderEFI, ""), cfg, system, system), "ada0p5", "EFI variables", true},
		"the kernel is enough":         {efiDisk(t, one(loaderEFI, ""), cfg, kernel, system), "ada0p5", "EFI variables", true},
		"the first is not written yet": {efiDisk(t, one(loaderEFI, ""), cfg, nil, system), "ada0p6", "EFI variables", true},
		"none holds a system":          {efiDisk(t, one(loaderEFI, ""), cfg, nil, nil), "?", "EFI variables", true},
		"loader.env names one": {efiDisk(t, one(loaderEFI, "rootdev=disk0p6:\n"), cfg, system, system), "ada0p6",
			"loader.env says rootdev=disk0p6:, which is taken for ada0p6", false},
		"loader.env, other words": {efiDisk(t, one(loaderEFI, "-v console=efi\trootdev=disk0p4: rootdev=disk1p6\n"), cfg, system, system),
			"ada0p6", "rootdev=disk1p6, which is taken for", false},
		"loader.env names a pool":       {efiDisk(t, one(loaderEFI, "rootdev=zfs:zroot/ROOT/default:"), cfg, system, system), "?", "is not known", false},
		"loader.env names no partition": {efiDisk(t, one(loaderEFI, "rootdev=disk0p9:"), cfg, system, system), "?", "is not known", false},
		"loader.env names an MBR":       {efiDisk(t, one(loaderEFI, "rootdev=disk0s5:"), cfg, system, system), "?", "is not known", false},
		"loader.env names a path":       {efiDisk(t, one(loaderEFI, "uefi_rootdev=PciRoot(0x0)/Pci(0x1f,0x2)/HD(6)"), cfg, system, system), "?", "is not known", false},
		"loader.env names nothing":      {efiDisk(t, one(loaderEFI, "rootdev="), cfg, system, system), "?", "is not known", false},
		"loader.env says other things":  {efiDisk(t, one(loaderEFI, "boot_serial=YES\n"), cfg, system, system), "ada0p5", "EFI variables", true},
		"two that agree": {efiDisk(t, []map[string][]byte{program(loaderEFI, "rootdev=disk0p6:"), program(loaderEFI, "rootdev=disk0p6:")}, cfg, system, system),
			"ada0p6", "taken for ada0p6", false},
		"two that name different ones": {efiDisk(t, []map[string][]byte{program(loaderEFI, "rootdev=disk0p6:"), program(loaderEFI, "")}, cfg, system, system),
			"?", "another one says something else", false},
		"boot1.efi looks for its own": {efiDisk(t, one("FreeBSD EFI boot block", "rootdev=disk0p4:"), cfg, system, boot1), "ada0p6", "boot1.efi", true},
		"a pool of ZFS":               {efiDisk(t, one(loaderEFI, ""), cfg, system, system, disktest.Slice{Index: 7, Start: 7000, Count: 200, Kind: "freebsd-zfs"}), "?", "EFI variables", true},
	} {
		file := filepath.Join(t.TempDir(), "ada0")
		if err := os.WriteFile(file, c.disk, 0o600); err != nil {
			t.Fatal(err)
		}
		m := &Machine{Nano: config.Nano{Drive: "ada0", Kind: "p", Running: 6, Others: []int{4}}, File: file}
		tab, err := m.Table(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		doubts := strings.Join(m.Doubts(tab), "; ")
		if m.NextName(tab) != c.next || !strings.Contains(doubts, c.says) || tab.First != c.first {
			t.Errorf("%s: %s is next, %q, first %v", name, m.NextName(tab), doubts, tab.First)
		}
	}
}

// Two EFI system partitions: the loader is known if both hold the same.
func TestTwoEFISystemPartitions(t *testing.T) {
	t.Parallel()
	for want, esps := range map[disk.Loader][]map[string][]byte{
		disk.GPTBootEFI: {program("gptboot.efi", ""), program("gptboot.efi", "")},
		disk.Unknown:    {program("gptboot.efi", ""), program(loaderEFI, "")},
	} {
		file := filepath.Join(t.TempDir(), "ada0")
		for range 2 {
			if err := os.WriteFile(file, efiDisk(t, esps, nil, nil, nil), 0o600); err != nil {
				t.Fatal(err)
			}
			m := &Machine{Nano: config.Nano{Drive: "ada0", Kind: "p", Running: 6, Others: []int{4}}, File: file}
			tab, err := m.Table(t.Context())
			if err != nil || tab.Loader != want {
				t.Errorf("%q: %q, %v", want, tab.Loader, err)
			}
			slices.Reverse(esps)
		}
	}
}

// A slice that the loader takes as soon as it holds a system is not written to, and neither is one that it
// may be taking now: that is said, whether the slice is to be activated or not.
func TestInstallUnderALoaderThatHonoursNothing(t *testing.T) {
	t.Parallel()
	cfg, system := ufsOf(t, "host/rc.conf"), ufsOf(t, "boot/defaults/loader.conf", "boot/kernel/kernel", "conf/base/etc/x")
	for name, c := range map[string]struct {
		env      string
		p5       []byte
		running  int
		activate bool
		want     string // "" for written
	}{
		"the first runs":                  {"", system, 5, false, ""},
		"the first runs, to be activated": {"", system, 5, true, "could not be activated"},
		"the second runs, as nobody said": {"", system, 6, false, "ada0p6 is to boot next while ada0p5 is written"},
		"the second runs: the first is empty": {"", nil, 6, false,
			"ada0p5 comes before ada0p6: loader.efi takes the first slice that holds a system"},
		"the second runs, as loader.env says":     {"rootdev=disk0p6:", system, 6, false, ""},
		"the second runs, and not the one of env": {"rootdev=disk0p5:", system, 6, false, "is to boot next while"},
		"what boots is not known":                 {"rootdev=disk9s9a:", system, 5, false, "is to boot next while"},
	} {
		dir := t.TempDir()
		d := efiDisk(t, []map[string][]byte{program(loaderEFI, c.env)}, cfg, c.p5, system)
		file := filepath.Join(dir, "ada0")
		if err := os.WriteFile(file, d, 0o600); err != nil {
			t.Fatal(err)
		}
		m := &Machine{Nano: config.Nano{Drive: "ada0", Kind: "p", Running: c.running, Others: []int{4}}, File: file, RunDir: dir,
			Mounted: func() ([]string, error) { return nil, nil }}
		_, err := m.Install(t.Context(), Install{From: bytes.NewReader(system), Activate: c.activate})
		now, rerr := os.ReadFile(file)
		if rerr != nil {
			t.Fatal(rerr)
		}
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !bytes.Equal(now, d)):
			t.Errorf("%s: %v; touched: %v", name, err, !bytes.Equal(now, d))
		}
	}
}
