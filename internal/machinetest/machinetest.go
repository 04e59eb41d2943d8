// Package machinetest lays out the files of a machine below a directory, for tests.
package machinetest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"cfgd/config"
	"cfgd/internal/run"
)

// Dir is the directory of a machine. If one of its methods fails, the test ends.
type Dir struct {
	testing.TB
	Root string
}

// New makes an empty Dir by MemDir.
func New(t testing.TB) *Dir { return &Dir{t, MemDir(t)} }

// Memory is a directory in memory that Linux has.
const Memory = "/dev/shm"

// MemDir is t.TempDir in memory where Memory exists: for tests that make thousands of files and need no
// real fsync(2).
func MemDir(t testing.TB) string {
	dir, err := os.MkdirTemp(Memory, "cfgd-test")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Path returns where a path of the machine is.
func (d *Dir) Path(p string) string { return filepath.Join(d.Root, p) }

// Must ends the test if err is not nil.
func (d *Dir) Must(err error) {
	d.Helper()
	if err != nil {
		d.Fatal(err)
	}
}

// Write writes a file, and makes its directories.
func (d *Dir) Write(p, content string) {
	d.Helper()
	d.Must(os.MkdirAll(filepath.Dir(d.Path(p)), 0o755))
	d.Must(os.WriteFile(d.Path(p), []byte(content), 0o644))
}

// Read reads a file.
func (d *Dir) Read(p string) string {
	d.Helper()
	b, err := os.ReadFile(d.Path(p))
	d.Must(err)
	return string(b)
}

// Load reads the machine's configuration.
func (d *Dir) Load() (*config.Model, error) {
	return config.Load(config.Options{Root: d.Root, Euid: -1})
}

// Runner is a function as a run.Runner.
type Runner func(ctx context.Context, c run.Cmd) (string, error)

// Run calls the function.
func (f Runner) Run(ctx context.Context, c run.Cmd) (string, error) { return f(ctx, c) }
