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
	"cfgd/internal/mount"
)

// ufsOf makes a small filesystem with some files.
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
	makefs := exec.Command("makefs", "-t", "ffs", "-o", "version=2", "-s", "524288", file, tree)
	out, err := makefs.CombinedOutput()
	if err != nil {
		t.Fatalf("makefs: %v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// efiDisk makes a disk with EFI system partitions and three partitions with UFS: cfg, p5 and p6. Further
// partitions come last.
func efiDisk(t testing.TB, esps []map[string][]byte, p4, p5, p6 []byte, more ...disktest.Slice) []byte {
	d := make([]byte, 9000*sector)
	parts := []disktest.Slice{
		{Index: 4, Start: 3700, Count: 1100, Active: true},
		{Index: 5, Start: 4800, Count: 1100}, {Index: 6, Start: 5900, Count: 1100},
	}
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

// program makes an EFI system partition with a loader, and with loader.env if env is not "".
func program(text, env string) map[string][]byte {
	files := map[string][]byte{"EFI/BOOT/BOOTX64.EFI": esptest.Program(text)}
	if env != "" {
		files["EFI/FREEBSD/LOADER.ENV"] = []byte(env)
	}
	return files
}

// Which slice is booted by a loader that ignores the table: the one that loader.env names, or the first one
// that holds what the loader looks for. If that is not known, no slice is named, and a doubt says why.
func TestNextOfLoadersThatHonourNothing(t *testing.T) {
	t.Parallel()
	cfg, sys := ufsOf(t, "host/rc.conf"), ufsOf(t, "boot/defaults/loader.conf", "conf/base/etc/fstab")
	kernel, boot1 := ufsOf(t, "boot/kernel/kernel"), ufsOf(t, "boot/loader.efi")
	six := program(loaderEFI, "rootdev=disk0p6:")
	const zpool = "freebsd-zfs"
	for name, c := range map[string]struct {
		env    string
		p5, p6 []byte
		next   string
		says   string // in a doubt
		esps   []map[string][]byte
		more   string // the kind of a further partition
	}{
		"the first with UFS is cfg":    {"", sys, sys, "ada0p5", "EFI variables", nil, ""},
		"the kernel is enough":         {"", kernel, sys, "ada0p5", "EFI variables", nil, ""},
		"the first is not written yet": {"", nil, sys, "ada0p6", "EFI variables", nil, ""},
		"none holds a system":          {"", nil, nil, "?", "EFI variables", nil, ""},
		"env names one": {"rootdev=disk0p6:\n", sys, sys, "ada0p6", "taken for ada0p6", nil,
			""},
		"env, other words": {"-v a=b\trootdev=x: rootdev=disk1p6\n", sys, sys, "ada0p6",
			"disk1p6", nil, ""},
		"env names a pool": {"rootdev=zfs:zroot/ROOT/default:", sys, sys, "?", "is not known",
			nil, ""},
		"env names no partition": {"rootdev=disk0p9:", sys, sys, "?", "is not known", nil, ""},
		"env names an MBR":       {"rootdev=disk0s5:", sys, sys, "?", "is not known", nil, ""},
		"env names a path": {"uefi_rootdev=PciRoot(0x0)/HD(6)", sys, sys, "?", "is not known",
			nil, ""},
		"env names nothing":     {"rootdev=", sys, sys, "?", "is not known", nil, ""},
		"env says other things": {"boot_serial=YES\n", sys, sys, "ada0p5", "EFI variables", nil, ""},
		"two that agree": {"", sys, sys, "ada0p6", "taken for ada0p6",
			[]map[string][]byte{six, six}, ""},
		"two that name different ones": {"", sys, sys, "?", "and something else in another one",
			[]map[string][]byte{six, program(loaderEFI, "")}, ""},
		"boot1.efi looks for its own": {"", sys, boot1, "ada0p6", "boot1.efi",
			[]map[string][]byte{program("FreeBSD EFI boot block", "rootdev=disk0p4:")}, ""},
		"a pool of ZFS": {"", sys, sys, "?", "EFI variables", nil, zpool},
	} {
		esps := c.esps
		if esps == nil {
			esps = []map[string][]byte{program(loaderEFI, c.env)}
		}
		var more []disktest.Slice
		if c.more != "" {
			more = append(more, disktest.Slice{Index: 7, Start: 7000, Count: 200, Kind: c.more})
		}
		d := efiDisk(t, esps, cfg, c.p5, c.p6, more...)
		file := filepath.Join(t.TempDir(), "ada0")
		if err := os.WriteFile(file, d, 0o600); err != nil {
			t.Fatal(err)
		}
		m := &Disk{Nano: config.Nano{Drive: "ada0", Kind: "p", Running: 6, Others: []int{4}}, File: file}
		tab, err := m.Table(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		doubts := strings.Join(tab.Doubts(), "; ")
		if tab.NextName() != c.next || !strings.Contains(doubts, c.says) ||
			tab.First == strings.Contains(doubts, "loader.env says") {
			t.Errorf("%s: %s is next, %q, first %v", name, tab.NextName(), doubts, tab.First)
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
			m := &Disk{
				Nano: config.Nano{Drive: "ada0", Kind: "p", Running: 6, Others: []int{4}}, File: file,
			}
			tab, err := m.Table(t.Context())
			if err != nil || tab.Loader != want {
				t.Errorf("%q: %q, %v", want, tab.Loader, err)
			}
			slices.Reverse(esps)
		}
	}
}

// A slice is not written if the loader would boot it as soon as it holds a system, or may boot it now. The
// error says so, with and without activation.
func TestInstallUnderALoaderThatHonoursNothing(t *testing.T) {
	t.Parallel()
	cfg := ufsOf(t, "host/rc.conf")
	system := ufsOf(t, "boot/defaults/loader.conf", "boot/kernel/kernel", "conf/base/etc/x")
	for name, c := range map[string]struct {
		env      string
		p5       []byte
		running  int
		activate bool
		want     string // "" for written
	}{
		"the first runs":                  {"", system, 5, false, ""},
		"the first runs, to be activated": {"", system, 5, true, "could not be activated"},
		"the second runs, as nobody said": {"", system, 6, false,
			"ada0p6 is to boot next while ada0p5 is written"},
		"the second runs: the first is empty": {"", nil, 6, false,
			"ada0p5 comes before ada0p6: loader.efi takes the first slice that holds a system"},
		"the second runs, as loader.env says": {"rootdev=disk0p6:", system, 6, false, ""},
		"the second runs, and not the one of env": {"rootdev=disk0p5:", system, 6, false,
			"is to boot next while"},
		"what boots is not known": {"rootdev=disk9s9a:", system, 5, false,
			"is to boot next while"},
	} {
		dir := t.TempDir()
		d := efiDisk(t, []map[string][]byte{program(loaderEFI, c.env)}, cfg, c.p5, system)
		file := filepath.Join(dir, "ada0")
		if err := os.WriteFile(file, d, 0o600); err != nil {
			t.Fatal(err)
		}
		m := &Disk{
			Nano: config.Nano{Drive: "ada0", Kind: "p", Running: c.running, Others: []int{4}},
			File: file, RunDir: dir, Mounted: func() ([]mount.Mount, error) { return nil, nil },
		}
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
