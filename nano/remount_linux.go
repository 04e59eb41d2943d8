package nano

import "cfgd/internal/run"

// remount is mount(8)'s way to another mode of a mount that stands.
func remount(dir, mode string) run.Cmd { return run.Command("mount", "-o", "remount,"+mode, dir) }
