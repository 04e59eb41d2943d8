package nano

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"testing"

	"cfgd/config"
	"cfgd/config/conffile"
)

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
