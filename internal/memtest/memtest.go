// Package memtest puts the temporary directories of tests into memory, if the system has a large enough
// directory there. FreeBSD has none that is always there.
package memtest

import (
	"os"
	"testing"
)

// M runs the tests of a package that need no disk. Their temporary directories, and those of the programs
// that they start, are in memory if the system has a filesystem for that. fsync(2) then takes no time,
// whatever else the disk has to do.
type M struct{ *testing.M }

// Run runs the tests, and returns the exit code.
func (m M) Run() int {
	if dir := memory(); dir != "" {
		os.Setenv("TMPDIR", dir)
	}
	return m.M.Run()
}

// Main is the TestMain of such a package.
func Main(m *testing.M) { os.Exit(M{m}.Run()) }
