package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"cfgd/config/conffile"
)

// Layouts of NanoBSD, with a label and without, of BSDRP before and after its change to poudriere, and of
// poudriere image -t firmware; and what is none of them.
func TestNano(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fstab, conf string
		want        *Nano
		sources     [2]string
		err         string // of Nano and of a warning of Check, unless the machine is none of NanoBSD
		other       bool   // it is none
	}{
		"NanoBSD": {
			"/dev/ada0s1a / ufs ro 1 1\n/dev/ada0s3 /cfg ufs rw,noauto 2 2\n", "ada0",
			&Nano{Drive: "ada0", Kind: "s", Part: "a", Running: 1, Others: []int{3}},
			[2]string{"/dev/ada0s1a", "/dev/ada0s2a"}, "", false,
		},
		"without a conf": {
			"/dev/da0s2a / ufs ro 1 1\n", "", &Nano{Drive: "da0", Kind: "s", Part: "a", Running: 2},
			[2]string{"/dev/da0s1a", "/dev/da0s2a"}, "", false,
		},
		"a label": {
			"/dev/ufs/BSDs1a / ufs ro 1 1\n/dev/ufs/BSDs3 /cfg ufs rw,noauto 2 2\n/dev/ufs/BSDs4 /data ufs " +
				"rw 2 2\n", "ufs/BSD", &Nano{
				Drive:   "ufs/BSD",
				Kind:    "s",
				Part:    "a",
				Running: 1,
				Others:  []int{3, 4},
			}, [2]string{"/dev/ufs/BSDs1a", "/dev/ufs/BSDs2a"}, "", false,
		},
		"converted": {
			"/dev/ufs/BSDRPs2 / ufs ro 1 1\n", "ufs/BSDRP", &Nano{Drive: "ufs/BSDRP", Kind: "s", Running: 2},
			[2]string{"/dev/ufs/BSDRPs1", "/dev/ufs/BSDRPs2"}, "", false,
		},
		"a bare label": {
			"/dev/ufs/BSDRP1 / ufs ro 1 1\n", "ufs/BSDRP", &Nano{Drive: "ufs/BSDRP", Running: 1},
			[2]string{"/dev/ufs/BSDRP1", "/dev/ufs/BSDRP2"}, "", false,
		},
		"poudriere": {
			"/dev/gpt/router2 / ufs ro 1 1\n/dev/gpt/cfg  /cfg  ufs rw,noatime,noauto 2 2\n/dev/gpt/data " +
				"/data ufs rw,noatime,noauto,failok 2 2\n", "gpt/router", &Nano{
				Drive: "gpt/router", Running: 2,
			}, [2]string{"/dev/gpt/router1", "/dev/gpt/router2"}, "", false,
		},
		"no conf, label": {
			"/dev/gpt/BSDRP1 / ufs ro 1 1\n", "", &Nano{Drive: "gpt/BSDRP", Running: 1},
			[2]string{"/dev/gpt/BSDRP1", "/dev/gpt/BSDRP2"}, "", false,
		},
		"ends in a digit": {
			"/dev/gpt/r112 / ufs ro 1 1\n", "gpt/r11", &Nano{Drive: "gpt/r11", Running: 2},
			[2]string{"/dev/gpt/r111", "/dev/gpt/r112"}, "", false,
		},
		"ends in an s": {
			"/dev/gpt/boxes1 / ufs ro 1 1\n", "gpt/boxes", &Nano{Drive: "gpt/boxes", Running: 1},
			[2]string{"/dev/gpt/boxes1", "/dev/gpt/boxes2"}, "", false,
		},
		"GPT": {
			"/dev/nda0p4 / ufs ro 1 1\n/dev/nda0p3 /cfg ufs rw,noauto 2 2\n", "nda0",
			&Nano{Drive: "nda0", Kind: "p", Running: 4, Others: []int{3}},
			[2]string{"/dev/nda0p1", "/dev/nda0p2"}, "", false,
		},
		"a disk in a VM": {
			"/dev/vtbd0s1a / ufs ro 1 1\n", "vtbd0", &Nano{Drive: "vtbd0", Kind: "s", Part: "a", Running: 1},
			[2]string{"/dev/vtbd0s1a", "/dev/vtbd0s2a"}, "", false,
		},
		"NVMe": {
			"/dev/nvd0p2 / ufs ro 1 1\n", "nvd0", &Nano{Drive: "nvd0", Kind: "p", Running: 2},
			[2]string{"/dev/nvd0p1", "/dev/nvd0p2"}, "", false,
		},
		"two that disagree": {
			"# /\n/dev/ada0s1a / ufs ro 1 1\n", "ufs/BSD", nil, [2]string{},
			"/etc/nanobsd.conf:1: NANO_DRIVE is ufs/BSD, but /etc/fstab:2 mounts / from ada0", false,
		},
		"a third system": {
			"/dev/ufs/BSDs3a / ufs ro 1 1\n", "ufs/BSD", nil, [2]string{},
			"/etc/fstab:1: /dev/ufs/BSDs3a is no system of a NanoBSD disk", false,
		},
		"no slice": {
			"/dev/ada0 / ufs ro 1 1\n", "ada0", nil, [2]string{},
			"/etc/fstab:1: /dev/ada0 is no system of a NanoBSD disk", false,
		},
		"leads elsewhere": {
			"/dev/../../Xp1 / ufs ro 1 1\n", "../../X", nil, [2]string{},
			"/etc/fstab:1: /dev/../../Xp1 is no system of a NanoBSD disk", false,
		},
		"/ twice": {
			"/dev/ada0s1a / ufs ro 1 1\n/dev/ada0s2a / ufs ro 1 1\n", "ada0", nil, [2]string{},
			"/etc/fstab:2: ", false,
		},
		"no line":         {"# nothing\n", "ada0", nil, [2]string{}, "/etc/fstab: no line for /", false},
		"no fstab":        {"", "ada0", nil, [2]string{}, "/etc/fstab: it is not there", false},
		"a malformed one": {"/dev/ada0s1a /\n", "ada0", nil, [2]string{}, "/etc/fstab:1: ", false},
		"ZFS":             {"zroot/ROOT / zfs ro 0 0\n", "", nil, [2]string{}, "/etc/fstab:1: ", true},
		"nothing at all":  {"", "", nil, [2]string{}, "/etc/fstab: ", true},
	} {
		dir := t.TempDir()
		write := func(name, text string) {
			if text == "" {
				return
			}
			full := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755),
				os.WriteFile(full, []byte(text), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		write("etc/rc.conf", "hostname=x\n")
		write("etc/fstab", c.fstab)
		if c.conf != "" {
			write("etc/nanobsd.conf", "NANO_DRIVE="+c.conf+"\n")
		}
		m, err := Load(Options{Root: dir, Euid: -1})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n, err := m.Nano()
		warned := ""
		for _, p := range m.Check(nil) {
			if strings.Contains(p.Message, "cfgd nano") {
				warned = p.String()
			}
		}
		if c.err != "" {
			if err == nil || !strings.HasPrefix(err.Error(), c.err) || errors.Is(err, ErrNoNano) != c.other {
				t.Errorf("%s: %v", name, err)
			}
			if where, _, _ := strings.Cut(c.err, ": "); (warned == "") != c.other ||
				!strings.HasPrefix(warned, where) && !c.other {
				t.Errorf("%s: check says %q", name, warned)
			}
			continue
		}
		if err != nil || warned != "" {
			t.Errorf("%s: %v, %q", name, err, warned)
			continue
		}
		if got := [2]string{n.Source(1), n.Source(2)}; got != c.sources ||
			(n.Conf.File != "") != (c.conf != "") || n.Origin.Line != 1 {
			t.Errorf("%s: %q, %+v", name, got, n)
		}
		n.Origin, n.Conf = conffile.Origin{}, conffile.Origin{}
		if !reflect.DeepEqual(n, c.want) {
			t.Errorf("%s: %+v, want %+v", name, n, c.want)
		}
	}
}
