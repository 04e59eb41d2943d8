package nano

import (
	"os"
	"path/filepath"
	"testing"

	"cfgd/config"
)

// With --root nothing outside is opened, whatever links are in the place of disks or in their paths.
func TestNothingOutsideTheRootIsOpened(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	disk := filepath.Join(outside, "ada0")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, plant := range map[string]func(root string) error{
		"a link of the disk": func(root string) error {
			if err := os.Mkdir(filepath.Join(root, "dev"), 0o755); err != nil {
				return err
			}
			return os.Symlink(disk, filepath.Join(root, "dev/ada0"))
		},
		"a relative one": func(root string) error {
			if err := os.Mkdir(filepath.Join(root, "dev"), 0o755); err != nil {
				return err
			}
			rel, err := filepath.Rel(filepath.Join(root, "dev"), disk)
			if err != nil {
				return err
			}
			return os.Symlink(rel, filepath.Join(root, "dev/ada0"))
		},
		"a link of dev": func(root string) error { return os.Symlink(outside, filepath.Join(root, "dev")) },
	} {
		for _, drive := range []string{"ada0", "ufs/NAME"} {
			root := t.TempDir()
			if err := plant(root); err != nil {
				t.Fatal(err)
			}
			m := &Disk{Nano: config.Nano{Drive: drive, Kind: "s", Running: 1}, Root: root}
			err := m.Find(t.Context(), filepath.Join(root, "dev"))
			if err == nil {
				_, _, err = m.open(t.Context(), os.O_RDWR)
			}
			if err == nil {
				t.Errorf("%s, %s: opened", name, drive)
			}
		}
	}
}
