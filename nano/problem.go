package nano

import (
	"errors"
	"strings"

	"cfgd/config"
	"cfgd/config/conffile"
)

// NoHost reports whether an error of Model.Nano or Find means that there is no disk of a NanoBSD host here,
// or that its configuration is wrong, which cfgd check reports.
func NoHost(err error) bool {
	var ce *conffile.Error
	return errors.As(err, &ce)
}

// Problem turns an error about the disk of a NanoBSD host into a problem of its set-up.
func Problem(n *config.Nano, err error) conffile.Problem {
	return conffile.Problem{
		Severity: conffile.SeverityWarning, File: n.Origin.File, Line: n.Origin.Line, Target: config.HostName,
		Message: "cfgd nano does not serve this machine: " +
			strings.TrimPrefix(err.Error(), n.Origin.String()+": "),
		Fix: "make fstab and " + n.Conf.String() + " name the disk that the machine runs from",
	}
}
