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

// gptboot marks a partition that it could not start with bootfailed, and starts another one. Later in that
// start rc.d/gptboot logs it and takes the mark away. So host early, which comes before it, notes the mark
// where nothing outlives a start.
func (m *Machine) failedNote() string { return filepath.Join(m.RunDir, "nano.failed") }

// NoteFailed notes the systems that their loader could not start, and returns the names of their slices.
// What was noted before in this start of the machine stays.
func (m *Machine) NoteFailed(ctx context.Context) ([]string, error) {
	t, err := m.Table(ctx)
	if err != nil {
		return nil, err
	}
	noted := m.failed()
	var names, lines []string
	for _, s := range m.systems(t) {
		if s.Index != m.Running && (s.Failed || noted[s.Index]) {
			names = append(names, m.Name(s.Index))
			lines = append(lines, strconv.Itoa(s.Index)+"\n")
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	return names, hostfile.WriteVolatile(m.failedNote(), []byte(strings.Join(lines, "")), 0o644)
}

// failed are the slices that were noted.
func (m *Machine) failed() map[int]bool {
	all := map[int]bool{}
	b, err := os.ReadFile(m.failedNote())
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

// forgetFailed removes the note: somebody has decided since what boots.
func (m *Machine) forgetFailed() error {
	if err := os.Remove(m.failedNote()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
