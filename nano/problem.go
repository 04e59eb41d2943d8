package nano

import (
	"errors"
	"io/fs"
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

// Problems turns an error about the disk of a NanoBSD host into a problem of its set-up. Only root may
// read the disk, so a user who may not gets none. With embedded, which is --root, there need not be a
// disk.
func Problems(n *config.Nano, err error, embedded bool) []conffile.Problem {
	if err == nil || errors.Is(err, fs.ErrPermission) || embedded && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return []conffile.Problem{conffile.Warn(conffile.NanoUnserved, n.Origin, config.HostName,
		"make fstab and "+n.Conf.String()+" name the disk that the machine runs from",
		"cfgd nano does not serve this machine: %s",
		strings.TrimPrefix(err.Error(), n.Origin.String()+": "))}
}
