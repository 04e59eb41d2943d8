package nano

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"cfgd/internal/hostfile"
)

// gptboot gives a partition that it could not start the attribute bootfailed, and starts another one. Later
// in that start rc.d/gptboot logs this and clears the attribute. So host early, which runs before it, writes
// a note into a directory that a start empties.
func (d *Disk) failedNote() string { return filepath.Join(d.RunDir, "nano.failed") }

// NoteFailed writes a note of the systems that their loader could not start, and returns the names of their
// slices. Earlier notes of this start of the machine stay.
func (d *Disk) NoteFailed(ctx context.Context) ([]string, error) {
	t, err := d.Table(ctx)
	if err != nil {
		return nil, err
	}
	noted := d.failed()
	var names, lines []string
	for _, s := range d.systems(t) {
		if s.Index != d.Running && (s.Failed || noted[s.Index]) {
			names = append(names, d.Name(s.Index))
			lines = append(lines, strconv.Itoa(s.Index)+"\n")
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	return names, hostfile.WriteVolatile(d.failedNote(), []byte(strings.Join(lines, "")), 0o644)
}

// failed returns the slices in the note.
func (d *Disk) failed() map[int]bool {
	all := map[int]bool{}
	b, err := os.ReadFile(d.failedNote())
	if err != nil {
		return all
	}
	for _, word := range strings.Fields(string(b)) {
		if n, err := strconv.Atoi(word); err == nil {
			all[n] = true
		}
	}
	return all
}

// forgetFailed removes the note, because somebody has decided what boots.
func (d *Disk) forgetFailed() error {
	if err := os.Remove(d.failedNote()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
