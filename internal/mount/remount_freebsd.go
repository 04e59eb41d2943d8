package mount

import "cfgd/internal/run"

// remount is the option of mount(8) that changes the mode of an existing mount.
func remount(dir, mode string) run.Cmd { return run.Command("mount", "-u", "-o", mode, dir) }
