package config

import (
	"fmt"
	"regexp"
	"strconv"
)

// Nano is the disk of a NanoBSD host.
type Nano struct {
	Drive   string // as below /dev: ada0, or ufs/LABEL
	Kind    string // s for slices of an MBR, p for partitions of a GPT
	Running int    // the slice that fstab mounts on /
	Origin  Origin // fstab's line
}

// rootDevice is a device of fstab with a slice in it: /dev/ada0s1a, /dev/ada0p2, /dev/ufs/LABELs1a.
var rootDevice = regexp.MustCompile(`^/dev/([A-Za-z0-9_./-]*[A-Za-z0-9_-])([sp])([0-9]{1,3})[a-h]?$`)

// Nano finds out which slice of which disk the host runs from: by /etc/fstab, and NANO_DRIVE of /etc/nanobsd.conf.
func (m *Model) Nano() (*Nano, error) {
	read, err := openFiles(m.Root)
	if err != nil {
		return nil, err
	}
	defer read.Close()
	data, err := read.ReadFile(hostFstab)
	if err != nil {
		return nil, err
	}
	entries, err := ParseFstab(hostFstab, data)
	if err != nil {
		return nil, err
	}
	var n *Nano
	for _, e := range entries {
		if e.Dir != "/" {
			continue
		}
		f := rootDevice.FindStringSubmatch(e.Source)
		if f == nil || n != nil {
			return nil, &ConfigError{File: hostFstab, Line: e.Line, Message: fmt.Sprintf("%s is no slice of a NanoBSD disk, mounted once", e.Source), Fix: "cfgd nano serves machines whose / is such as /dev/ada0s1a"}
		}
		i, _ := strconv.Atoi(f[3])
		n = &Nano{f[1], f[2], i, Origin{hostFstab, e.Line}}
	}
	if n == nil {
		return nil, &ConfigError{File: hostFstab, Message: "no line for /", Fix: "write it as /dev/ada0s1a / ufs ro 1 1"}
	}
	c := &rcConf{read: read, vars: map[string]rcVar{}, assigned: map[string][]rcAssign{}}
	const file = "/etc/nanobsd.conf"
	if err := c.file(file); err != nil {
		return nil, err
	}
	if drive, at, ok := c.get("NANO_DRIVE"); ok && drive != n.Drive {
		return nil, &ConfigError{File: at.File, Line: at.Line, Message: fmt.Sprintf("NANO_DRIVE is %s, but %s mounts / from %s", drive, n.Origin, n.Drive), Fix: "make the two agree"}
	}
	return n, nil
}
