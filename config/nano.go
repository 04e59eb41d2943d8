package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/fstab"
	"cfgd/config/rcconf"
)

// Nano is the disk of a NanoBSD host, as fstab and nanobsd.conf name it.
type Nano struct {
	Drive string // as below /dev: ada0, or a label of GEOM: ufs/NAME, gpt/NAME
	// between Drive and the number: s for slices of an MBR, p for a GPT; of a label s or nothing
	Kind    string
	Part    string          // what follows the number: a if fstab names a partition of a BSD label, else ""
	Running int             // the number of what fstab mounts on /
	Origin  conffile.Origin // fstab's line
	Conf    conffile.Origin // NANO_DRIVE's, which marks a NanoBSD machine; no file if it is not set

	// Others are the numbers of this drive that fstab mounts elsewhere: cfg, and data.
	Others []int
}

// Label returns the kind of label of the drive: "ufs" is the volume name of a filesystem, "gpt" the label
// of a partition, "" is a disk.
func (n *Nano) Label() string {
	for _, kind := range []string{"ufs", "gpt"} {
		if strings.HasPrefix(n.Drive, kind+"/") {
			return kind
		}
	}
	return ""
}

// Source returns the device that fstab names for the system of this number: /dev/ada0s1a,
// /dev/ufs/NAMEs1a, /dev/gpt/NAME1.
func (n *Nano) Source(number int) string {
	return fmt.Sprintf("/dev/%s%s%d%s", n.Drive, n.Kind, number, n.Part)
}

const nanoConf = "/etc/nanobsd.conf"

// Devices of fstab: of a disk /dev/ada0s1a, /dev/ada0p2, of a label /dev/ufs/NAMEs1a, /dev/ufs/NAME1,
// /dev/gpt/NAME1. NanoBSD, BSDRP and poudriere image(8) name two systems by the numbers 1 and 2, whatever
// partitions they have.
var (
	rootDevice = regexp.MustCompile(`^/dev/([A-Za-z0-9_./-]*[A-Za-z0-9_-])([sp])([0-9]{1,3})([a-h]?)$`)
	rootLabel  = regexp.MustCompile(`^/dev/((?:ufs|gpt)/[^/]+?)(s?)([12])(a?)$`)
	afterDrive = regexp.MustCompile(`^([sp]?)([0-9]{1,3})([a-h]?)$`)
)

// ErrNoNano reports that the host has nothing of a NanoBSD disk: no nanobsd.conf, and a root that is none
// of its devices.
var ErrNoNano = errors.New("no machine of NanoBSD")

// Nano finds which system of which disk the host runs from, by /etc/fstab and NANO_DRIVE of
// /etc/nanobsd.conf. An error is a *conffile.Error; it is also ErrNoNano if the host is no such machine.
func (m *Model) Nano() (*Nano, error) {
	read, err := conffile.Open(m.Root)
	if err != nil {
		return nil, err
	}
	c, err := rcconf.LoadFile(read, nanoConf)
	if err != nil {
		return nil, err
	}
	drive, at, named := c.Get("NANO_DRIVE")
	entries, err := nanoFstab(read)
	if err == nil {
		var n *Nano
		if n, err = nanoRoot(entries, drive); err == nil {
			if named && drive != n.Drive {
				return nil, conffile.Errorf(at, "make the two agree",
					"NANO_DRIVE is %s, but %s mounts / from %s", drive, n.Origin, n.Drive)
			}
			if named {
				n.Conf = at
			}
			return n, nil
		}
	}
	var ce *conffile.Error
	if errors.As(err, &ce) && !named {
		ce.Err = ErrNoNano
	}
	return nil, err
}

func nanoFstab(read conffile.Reader) ([]fstab.Entry, error) {
	data, err := read.ReadFile(hostFstab)
	if errors.Is(err, fs.ErrNotExist) {
		const fix = "write one with a line for /, such as: /dev/ada0s1a / ufs ro 1 1"
		return nil, &conffile.Error{File: hostFstab, Message: "it is not there", Fix: fix, Err: err}
	}
	if err != nil {
		return nil, err
	}
	entries, bad := fstab.Parse(hostFstab, data)
	entries = slices.DeleteFunc(entries, func(e fstab.Entry) bool {
		return slices.ContainsFunc(bad, func(b *conffile.Error) bool { return b.Line == e.Line })
	})
	if len(bad) > 0 && !slices.ContainsFunc(entries, func(e fstab.Entry) bool { return e.Dir == "/" }) {
		return nil, bad[0]
	}
	return entries, nil
}

// nanoRoot parses the line for /. NANO_DRIVE, if it is set, tells where the drive's name ends. Nothing
// else tells that for a label that ends in a digit or an s.
func nanoRoot(entries []fstab.Entry, drive string) (*Nano, error) {
	var n *Nano
	for _, e := range entries {
		if e.Dir != "/" {
			continue
		}
		if x := NanoSource(e.Source, drive); x != nil && n == nil {
			x.Origin = conffile.At(hostFstab, e.Line)
			n = x
			continue
		}
		return nil, conffile.Errorf(conffile.At(hostFstab, e.Line),
			"cfgd nano serves machines whose / is such as /dev/ada0s1a, /dev/ada0p2, /dev/ufs/NAMEs1a "+
				"or /dev/gpt/NAME1",
			"%s is no system of a NanoBSD disk, mounted once", e.Source)
	}
	if n == nil {
		return nil, &conffile.Error{
			File:    hostFstab,
			Message: "no line for /",
			Fix:     "write it as /dev/ada0s1a / ufs ro 1 1",
		}
	}
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Source, "/dev/"+n.Drive); ok && e.Dir != "/" {
			if f := afterDrive.FindStringSubmatch(rest); f != nil && f[1] == n.Kind {
				i, _ := strconv.Atoi(f[2])
				n.Others = append(n.Others, i)
			}
		}
	}
	return n, nil
}

// NanoSource parses the name of a device that holds a system of a NanoBSD disk, as in fstab. It returns
// nil for any other device. drive, if it is not "", is NANO_DRIVE, and tells where the drive's name ends.
func NanoSource(source, drive string) *Nano {
	if !fs.ValidPath(strings.TrimPrefix(source, "/")) { // .. and its like
		return nil
	}
	if rest, ok := strings.CutPrefix(source, "/dev/"+drive); ok && drive != "" {
		if n := nanoNumber(drive, rest); n != nil {
			return n
		}
	}
	for _, form := range []*regexp.Regexp{rootLabel, rootDevice} {
		f := form.FindStringSubmatch(source)
		if f == nil {
			continue
		}
		n := &Nano{Drive: f[1], Kind: f[2], Part: f[4]}
		if form == rootDevice && n.Label() != "" {
			return nil // a label with another number
		}
		n.Running, _ = strconv.Atoi(f[3])
		return n
	}
	return nil
}

// nanoNumber parses what follows the drive's name: for a disk s1a or p2, for a label s1a, s1 or 1. The
// number is 1 or 2.
func nanoNumber(drive, rest string) *Nano {
	f := afterDrive.FindStringSubmatch(rest)
	if f == nil {
		return nil
	}
	n := &Nano{Drive: drive, Kind: f[1], Part: f[3]}
	n.Running, _ = strconv.Atoi(f[2])
	switch label := n.Label() != ""; {
	case !label && n.Kind == "":
		return nil
	case label && (n.Kind == "p" || n.Running != 1 && n.Running != 2 || cmp.Or(n.Part, "a") != "a"):
		return nil
	}
	return n
}

// checkNano warns of what cfgd nano cannot use: a machine whose nanobsd.conf says that it is NanoBSD, and
// whose fstab does not fit.
func (m *Model) checkNano() []conffile.Problem {
	_, err := m.Nano()
	if err == nil || errors.Is(err, ErrNoNano) {
		return nil
	}
	var ce *conffile.Error
	if !errors.As(err, &ce) {
		ce = &conffile.Error{File: nanoConf, Message: err.Error(), Fix: "mend it"}
	}
	return []conffile.Problem{conffile.Warn(conffile.NanoUnserved, conffile.At(ce.File, ce.Line), HostName,
		ce.Fix,
		"cfgd nano does not serve this machine: %s", ce.Message)}
}
