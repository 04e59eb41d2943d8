package mount

import (
	"github.com/moby/sys/mountinfo"
)

// Mount is an entry of the system's table of mounts.
type Mount struct {
	Source string
	Dir    string
	Type   string
}

// On returns the mounts on exactly this directory, the topmost last. The path must be free of links.
func On(dir string) ([]Mount, error) {
	infos, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter(dir))
	if err != nil {
		return nil, err
	}
	var out []Mount
	for _, i := range infos {
		out = append(out, Mount{Source: i.Source, Dir: i.Mountpoint, Type: i.FSType})
	}
	return out, nil
}
