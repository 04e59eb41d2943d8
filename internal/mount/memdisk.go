package mount

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cfgd/internal/run"
)

// The kinds of a Memdisk.
const (
	MD    = "md"
	Tmpfs = "tmpfs"
)

// TmpfsSource is the source of our tmpfs in the table of mounts.
const TmpfsSource = "cfgd"

// Memdisk is the filesystem of a live tree in memory: an md(4) disk with UFS, or a tmpfs(5).
type Memdisk struct {
	Backing string // MD or Tmpfs
	Size    int64  // bytes
	Dir     string // the mountpoint
	GOOS    string // freebsd or linux: mount(8) has other words
	Device  string // md3, once it is made or known
	// Note, if not nil, is called with the md as soon as Make has it, and with "" when Make has undone
	// it. Without such a note nothing would know of the md if the process is killed in between. An error
	// of Note stops Make.
	Note func(device string) error
}

// newfsFlags suit a tree of thousands of small files on a small disk. The defaults of newfs(8) do not:
// they give blocks of 32 KiB in fragments of 4 KiB, and an inode for every two fragments, 2,048 in 16
// MiB, while an /etc with packages needs 2,800. With these flags a small file takes 1 KiB, and 16 MiB
// have 8,192 inodes, which take 2 MiB. -n makes no .snap directory, which would be in the live tree. -O 2
// is the format that records when a file was made, which identifies a live tree.
var newfsFlags = []string{"-i", "2048", "-f", "1024", "-b", "8192", "-O", "2", "-n"}

// MakePlan returns the commands that make it. For an md the first command prints the device, which the
// others have as mdN: see mdconfig(8), newfs(8), mount(8), tmpfs(5).
func (m Memdisk) MakePlan() []run.Cmd {
	if m.Backing == MD {
		dev := "/dev/" + m.device()
		return []run.Cmd{
			run.Command("mdconfig", "-a", "-t", "swap", "-s", fmt.Sprintf("%dk", m.Size/1024)),
			run.Command("newfs", append(slices.Clone(newfsFlags), dev)...),
			// Nothing on it survives a crash, so the order of writes does not matter: async, and no soft
			// updates, which would free the space of deleted files only later. newfs(8) of FreeBSD 15
			// turns soft updates on unless it is given -u, which earlier versions lack. tunefs(8) exits 0
			// if they are off already.
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

// UnmakePlan returns the commands that unmount it and free the memory. An md is unmounted by its device,
// wherever it is mounted: umount(8) finds it in the table of mounts and uses no path.
func (m Memdisk) UnmakePlan() []run.Cmd {
	if m.Backing == MD {
		return []run.Cmd{run.Command("umount", "/dev/"+m.device()), m.destroy()}
	}
	return []run.Cmd{run.Command("umount", m.Dir)}
}

func (m Memdisk) destroy() run.Cmd {
	return run.Command("mdconfig", "-d", "-u", strings.TrimPrefix(m.device(), "md"))
}

// source returns the source of the mount: FreeBSD's mount_tmpfs wants the word tmpfs.
func (m Memdisk) source() string {
	if m.GOOS == "freebsd" {
		return "tmpfs"
	}
	return TmpfsSource
}

func (m Memdisk) device() string {
	if m.Device == "" {
		return "mdN"
	}
	return m.Device
}

var mdName = regexp.MustCompile(`^md[0-9]+$`)

// Make makes and mounts it, and returns the device of an md. If a later step fails, Make undoes the
// earlier ones.
func (m Memdisk) Make(ctx context.Context, r run.Runner) (string, error) {
	cmds := m.MakePlan()
	if m.Backing != MD {
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

func (m Memdisk) note(device string) error {
	if m.Note == nil {
		return nil
	}
	return m.Note(device)
}

// Unmake unmounts it and destroys an md.
func (m Memdisk) Unmake(ctx context.Context, r run.Runner) error {
	if m.Backing == MD && !mdName.MatchString(m.Device) {
		return fmt.Errorf("%s: %q: not the name of an md", m.Dir, m.Device)
	}
	if _, err := r.Run(ctx, m.UnmakePlan()[0]); err != nil {
		return err
	}
	return m.Destroy(ctx, r)
}

// Destroy frees the memory of an unmounted md. For a tmpfs it does nothing.
func (m Memdisk) Destroy(ctx context.Context, r run.Runner) error {
	if m.Backing != MD || m.Device == "" {
		return nil
	}
	if !mdName.MatchString(m.Device) {
		return fmt.Errorf("%q: not the name of an md", m.Device)
	}
	_, err := r.Run(ctx, m.destroy())
	return err
}
