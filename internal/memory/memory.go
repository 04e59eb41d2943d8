// Package memory makes and unmakes the filesystem that holds a live tree: an md(4) disk with UFS, or a
// tmpfs(5).
//
// It owns the exact commands, as plans: values that are printed by --dry-run, compared in tests and run
// by package run.
package memory

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cfgd/config"
	"cfgd/internal/run"
)

// TmpfsSource is the name that a tmpfs of ours bears in the table of mounts.
const TmpfsSource = "cfgd"

// Memory is a filesystem in memory at a directory.
type Memory struct {
	Backing config.Backing
	Size    int64  // bytes
	Dir     string // the mountpoint
	GOOS    string // freebsd or linux: mount(8) has other words
	Device  string // md3, once it is made or known
	// Note, if not nil, hears of the md as soon as Make has it, and "" when Make has undone it: of what
	// nobody noted nothing remains when the process is killed in between. Its error stops Make.
	Note func(device string) error
}

// newfsFlags suit a tree of thousands of small files on a small disk, which the defaults of newfs(8) do
// not: blocks of 32 KiB in fragments of 4, and an inode for every two of these, 2,048 in 16 MiB, where an
// /etc with packages takes 2,800. Here a small file takes 1 KiB, and 16 MiB hold 8,192 inodes, which take
// 2 MiB of it. -n makes no .snap directory, which would stand in the live tree; -O 2 is the format that
// knows when a file was made, by which one live tree is told from the next.
var newfsFlags = []string{"-i", "2048", "-f", "1024", "-b", "8192", "-O", "2", "-n"}

// MakePlan are the commands that make it. For an md the first prints the device, which stands for mdN in
// the others: see mdconfig(8), newfs(8), mount(8), tmpfs(5).
func (m Memory) MakePlan() []run.Cmd {
	if m.Backing == config.BackingMD {
		dev := "/dev/" + m.device()
		return []run.Cmd{
			run.Command("mdconfig", "-a", "-t", "swap", "-s", fmt.Sprintf("%dk", m.Size/1024)),
			run.Command("newfs", append(slices.Clone(newfsFlags), dev)...),
			// Nothing of it survives a crash, so nothing is written in order: async, and no soft updates,
			// which would give the room of deleted files back later only. newfs(8) of FreeBSD 15 turns
			// them on unless it is given -u, which earlier ones do not know; tunefs(8) ends with 0 where
			// they are off already.
			run.Command("tunefs", "-n", "disable", dev),
			run.Command("mount", "-o", "noatime,async", dev, m.Dir),
		}
	}
	opts := fmt.Sprintf("size=%d,mode=755", m.Size)
	if m.GOOS == "linux" {
		opts += ",nodev,noatime"
	}
	args := []string{"-t", "tmpfs", "-o", opts, m.source(), m.Dir}
	if m.GOOS == "linux" {
		// take the path as it is: a directory by its descriptor stays that directory
		args = append([]string{"-c"}, args...)
	}
	return []run.Cmd{run.Command("mount", args...)}
}

// UnmakePlan are the commands that unmount it and give the memory back. An md is unmounted by its device,
// wherever it is mounted: umount(8) finds it in the table of mounts and looks at no path.
func (m Memory) UnmakePlan() []run.Cmd {
	if m.Backing == config.BackingMD {
		return []run.Cmd{run.Command("umount", "/dev/"+m.device()), m.destroy()}
	}
	return []run.Cmd{run.Command("umount", m.Dir)}
}

func (m Memory) destroy() run.Cmd {
	return run.Command("mdconfig", "-d", "-u", strings.TrimPrefix(m.device(), "md"))
}

// source is what is mounted: FreeBSD's mount_tmpfs wants the word tmpfs.
func (m Memory) source() string {
	if m.GOOS == "freebsd" {
		return "tmpfs"
	}
	return TmpfsSource
}

func (m Memory) device() string {
	if m.Device == "" {
		return "mdN"
	}
	return m.Device
}

var mdName = regexp.MustCompile(`^md[0-9]+$`)

// Make makes and mounts it, and returns the device of an md. What was made is undone when a later step fails.
func (m Memory) Make(ctx context.Context, r run.Runner) (string, error) {
	cmds := m.MakePlan()
	if m.Backing != config.BackingMD {
		_, err := r.Run(ctx, cmds[0])
		return "", err
	}
	out, err := r.Run(ctx, cmds[0])
	if err != nil {
		return "", err
	}
	if m.Device = strings.TrimSpace(out); !mdName.MatchString(m.Device) {
		return "", fmt.Errorf("%s: printed %q, not the name of an md", cmds[0], out)
	}
	err = m.note(m.Device)
	for _, c := range m.MakePlan()[1:] {
		if err != nil {
			break
		}
		_, err = r.Run(ctx, c)
		if c.Name == "tunefs" && ctx.Err() == nil {
			err = nil // the disk serves with soft updates too, if worse: a start does not fail for it
		}
	}
	if err != nil {
		_, undo := r.Run(context.WithoutCancel(ctx), m.destroy())
		if undo == nil {
			undo = m.note("")
		}
		return "", errors.Join(err, undo)
	}
	return m.Device, nil
}

func (m Memory) note(device string) error {
	if m.Note == nil {
		return nil
	}
	return m.Note(device)
}

// Unmake unmounts it and destroys an md. All steps are tried.
func (m Memory) Unmake(ctx context.Context, r run.Runner) error {
	if m.Backing == config.BackingMD && !mdName.MatchString(m.Device) {
		return fmt.Errorf("%s: %q: not the name of an md", m.Dir, m.Device)
	}
	if _, err := r.Run(ctx, m.UnmakePlan()[0]); err != nil {
		return err
	}
	return m.Destroy(ctx, r)
}

// Destroy gives the memory of an unmounted md back; of a tmpfs there is none to give.
func (m Memory) Destroy(ctx context.Context, r run.Runner) error {
	if m.Backing != config.BackingMD || m.Device == "" {
		return nil
	}
	if !mdName.MatchString(m.Device) {
		return fmt.Errorf("%q: not the name of an md", m.Device)
	}
	_, err := r.Run(ctx, m.destroy())
	return err
}
