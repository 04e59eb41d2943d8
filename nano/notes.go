package nano

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"cfgd/internal/hostfile"
)

// notes are files in a directory that a start of the machine empties: /var/run/cfgd.
type notes struct{ dir string }

// The note of the choice has the slice that was chosen since the machine started. It distinguishes a choice
// that was not tried yet from a trial that goes on, because the attributes in the table are the same for
// both.
func (n notes) choice() string { return filepath.Join(n.dir, "nano.next") }

// chosen returns the slice in the note of the choice; 0 if there is none.
func (n notes) chosen() int {
	b, err := os.ReadFile(n.choice())
	if err != nil {
		return 0
	}
	slice, _ := strconv.Atoi(strings.TrimSpace(string(b)))
	return slice
}

// choose writes the note of the choice. It removes the note of failures, because somebody has decided what
// boots.
func (n notes) choose(slice int) error {
	if n.dir == "" {
		return nil
	}
	err := os.Remove(n.failures())
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, hostfile.WriteVolatile(n.choice(), []byte(strconv.Itoa(slice)+"\n"), 0o644))
}

// gptboot gives a partition that it could not start the attribute bootfailed, and starts another one. Later
// in that start rc.d/gptboot logs this and clears the attribute. So host early, which runs before it, writes
// the note of failures.
func (n notes) failures() string { return filepath.Join(n.dir, "nano.failed") }

// failed returns the slices in the note of failures.
func (n notes) failed() map[int]bool {
	all := map[int]bool{}
	b, err := os.ReadFile(n.failures())
	if err != nil {
		return all
	}
	for _, word := range strings.Fields(string(b)) {
		if slice, err := strconv.Atoi(word); err == nil {
			all[slice] = true
		}
	}
	return all
}

func (d *Disk) notes() notes { return notes{d.RunDir} }
