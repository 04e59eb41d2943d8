package hostfile

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"cfgd/internal/flock"
)

// patience is longer than any edit takes; no command runs while the lock is held.
const patience = 30 * time.Second

// Lock waits until no other process edits the host's files. There is one lock for all of them: runDir is
// cfgd's directory in /var/run.
func Lock(ctx context.Context, runDir string) (unlock func(), err error) {
	return flock.Lock(ctx, filepath.Join(runDir, "hostfiles.lock"), "this machine's files", patience)
}

// Edit reads a file, changes it and replaces it while it has the lock. The change gets nil for a file
// that does not exist, which is then made with mode 0644; what it returns unchanged, or nil, is not
// written.
func Edit(ctx context.Context, runDir, full string, change func(old []byte) ([]byte, error)) error {
	unlock, err := Lock(ctx, runDir)
	if err != nil {
		return err
	}
	defer unlock()
	old, err := ReadFile(full)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	data, err := change(slices.Clone(old))
	if err != nil || data == nil || old != nil && bytes.Equal(data, old) {
		return err
	}
	if err := sweep(full); err != nil {
		return err
	}
	return Write(full, data, 0o644)
}
