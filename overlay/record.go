package overlay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"cfgd/internal/dirfd"
	"cfgd/internal/hostfile"
	"cfgd/overlay/tree"
)

// Record says which live tree cfgd populated. It is /var/run/cfgd/live/NAME.json, which a restart of the
// machine clears. It names the filesystem, so that neither an unmounted tree nor a new one is mistaken for
// it.
type Record struct {
	Identity   string    `json:"identity"` // dirfd.Dir.Identity of the live root
	State      string    `json:"state"`    // populating or populated
	BasePath   string    `json:"basePath"` // from the configuration
	BaseID     string    `json:"base"`
	Generation int       `json:"generation"`
	Time       time.Time `json:"time"`
	// populated by something else, and taken over by AdoptLive
	Adopted bool   `json:"adopted,omitempty"`
	Memory  string `json:"memory,omitempty"` // md3, tmpfs or dir
	Device  string `json:"device,omitempty"`
	// Refused is what live's filesystem refused of what it was populated from.
	Refused []tree.Refused `json:"lacks,omitempty"`
}

// The values of Record.State.
const (
	Populating = "populating"
	Populated  = "populated"
)

func (o *Overlay) recordPath() string {
	return filepath.Join(o.RunDir, "live", o.Target.Name+".json")
}

// Record reads the target's record. It is nil if there is none that can be read.
func (o *Overlay) Record() (*Record, error) {
	if o.Known != nil {
		return o.Known, nil
	}
	b, err := os.ReadFile(o.recordPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%s: %w; remove the file and run cfgd jail init %s", o.recordPath(), err,
			o.Target.Name)
	}
	// also of a machine that was running when cfgd was replaced
	r.Identity = dirfd.PresentIdentity(r.Identity)
	return &r, nil
}

// WriteRecord replaces the target's record.
func (o *Overlay) WriteRecord(r *Record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return hostfile.WriteVolatile(o.recordPath(), append(b, '\n'), 0o600)
}

// DropRecord removes the target's record.
func (o *Overlay) DropRecord() error {
	err := os.Remove(o.recordPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// ErrNotPopulated says that there is no live tree that cfgd populated. Then nothing is saved, whatever is
// missing in the tree.
var ErrNotPopulated = errors.New("not populated")

// populated returns the record if the open live tree is the one that cfgd populated. For a tree of an earlier
// start the error is an *EarlierError.
func (o *Overlay) populated(live *dirfd.Dir) (*Record, error) {
	r, err := o.Record()
	if err != nil {
		return nil, err
	}
	id, err := live.Identity()
	if err != nil {
		return nil, err
	}
	if r == nil || r.Identity != id {
		if err := o.hidden(id); err != nil {
			return nil, err
		}
	}
	switch {
	case r == nil:
		return nil, fmt.Errorf("%w by cfgd since the machine started", ErrNotPopulated)
	case r.Identity != id:
		return nil, fmt.Errorf("%w: %s is not the filesystem that was populated (unmounted, or mounted anew)",
			ErrNotPopulated, o.Target.Live)
	case r.State != Populated:
		return nil, fmt.Errorf("%w: cfgd was interrupted while it populated the tree", ErrNotPopulated)
	}
	return r, nil
}
