package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cfgd/watcher/control"
)

// settleForBench is the settle time of the daemon. It is subtracted from the time that an edit took.
const settleForBench = 20 * time.Millisecond

// benchDaemon runs the real daemon, as a process of its own, on a machine with many jails.
func benchDaemon(ctx context.Context, l *lab) (rows []row, err error) {
	d, err := startDaemon(ctx, l)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	edits, err := d.edits(ctx, min(l.saves, 200))
	if err != nil {
		return nil, err
	}
	idle, err := d.idle(ctx, l.idle)
	return append(edits, idle...), err
}

// daemon is a daemon that runs on a machine in a directory.
type daemon struct {
	root  string
	jails int
	cmd   *exec.Cmd
	log   bytes.Buffer
}

// startDaemon builds cfgd, lays out the machine, populates its jails, and waits until the daemon is ready.
func startDaemon(ctx context.Context, l *lab) (*daemon, error) {
	d := &daemon{root: filepath.Join(l.disk, "machine"), jails: l.targets}
	bin := filepath.Join(l.disk, "cfgd")
	if err := command(ctx, "go", "build", "-o", bin, "cfgd/cmd/cfgd"); err != nil {
		return nil, err
	}
	if err := d.layOut(l); err != nil {
		return nil, err
	}
	for i := range d.jails {
		c := exec.CommandContext(ctx, bin, "--root", d.root, "jail", "init", jailName(i))
		if out, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("jail init: %w: %s", err, out)
		}
	}
	d.cmd = exec.CommandContext(ctx, bin, "--root", d.root, "--log-level", "warn", "daemon")
	d.cmd.Stderr = &d.log
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	return d, d.ready(ctx)
}

func jailName(i int) string { return fmt.Sprintf("jail%03d", i) }

// layOut writes the configuration, and makes the base and every cfg. All of this is on the disk, because with
// --root no link leads out of the directory.
func (d *daemon) layOut(l *lab) error {
	base := filepath.Join(d.root, "jail/proto/.cfgd/snapshot/1/etc")
	if err := os.MkdirAll(filepath.Dir(base), 0o755); err != nil {
		return err
	}
	if err := writeTree(base, l.items); err != nil {
		return err
	}
	var rc strings.Builder
	for i := range d.jails {
		name := jailName(i)
		fmt.Fprintf(&rc, "jail_%[1]s_rootdir=\"/jail/%[1]s\"\njail_%[1]s_hostname=\"%[1]s\"\n"+
			"jail_%[1]s_fstab=\"/etc/fstab.%[1]s\"\n", name)
		fstab := fmt.Sprintf("/jail/proto/.cfgd/snapshot/1/etc /jail/%s/conf/base/etc nullfs ro 0 0\n", name)
		if err := put(filepath.Join(d.root, "etc/fstab."+name), fstab); err != nil {
			return err
		}
		cfg := filepath.Join(d.root, "cfg", name)
		toml := fmt.Sprintf("[jail.%s]\ncfg = \"/cfg/%s\"\n", name, name)
		if err := errors.Join(os.MkdirAll(cfg, 0o755),
			appendTo(filepath.Join(d.root, "usr/local/etc/cfgd.toml"), toml)); err != nil {
			return err
		}
	}
	settings := fmt.Sprintf("[defaults]\nsettle = %q\n", settleForBench)
	return errors.Join(put(filepath.Join(d.root, "etc/rc.conf"), rc.String()),
		appendTo(filepath.Join(d.root, "usr/local/etc/cfgd.toml"), settings))
}

func put(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o644)
}

func appendTo(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// ready waits until the daemon reports that every jail is saved.
func (d *daemon) ready(ctx context.Context) error {
	c := control.NewClient(filepath.Join(d.root, "var/run/cfgd"))
	for {
		list, err := c.Status(ctx, false)
		saved := 0
		for _, s := range list {
			if s.SavedAsOf != nil {
				saved++
			}
		}
		if err == nil && saved == d.jails {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("daemon: %w\n%s", err, d.log.Bytes())
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// edits changes one file after the other, and measures the time until the content is in cfg. It is there only
// after fsync(2).
func (d *daemon) edits(ctx context.Context, n int) ([]row, error) {
	ours := &contestant{name: "daemon"}
	for i := range n {
		jail := jailName(i % d.jails)
		name, content := editOf(i)
		from, to := filepath.Join(d.root, "jail", jail, "etc", name), filepath.Join(d.root, "cfg", jail, name)
		start := time.Now()
		if err := os.WriteFile(from, content, 0o644); err != nil {
			return nil, err
		}
		for {
			if b, err := os.ReadFile(to); err == nil && bytes.Equal(b, content) {
				break
			}
			if time.Since(start) > 30*time.Second {
				return nil, fmt.Errorf("the daemon did not save %s: %s", from, d.log.String())
			}
			if err := pause(ctx, 200*time.Microsecond); err != nil {
				return nil, err
			}
		}
		ours.took = append(ours.took, time.Since(start)-settleForBench)
	}
	name := fmt.Sprintf("daemon, edit to stable storage after settle, %d times: ", n)
	return []row{within(name+"median", ours.median(), 10*time.Millisecond),
		within(name+"worst", quantile(ours.took, 1), 100*time.Millisecond)}, nil
}

// idle leaves the daemon alone for a while.
func (d *daemon) idle(ctx context.Context, long time.Duration) ([]row, error) {
	// A scan after the last save: then the save has done what it does after the content is in cfg.
	if _, err := control.NewClient(filepath.Join(d.root, "var/run/cfgd")).Status(ctx, true); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("daemon, idle for %s with %d targets: ", long, d.jails)
	cpu, err := d.cpu()
	if errors.Is(err, fs.ErrNotExist) {
		return []row{{name: name + "skipped", peer: "no /proc here"}}, nil
	}
	before, err2 := prints(filepath.Join(d.root, "cfg"))
	if err = errors.Join(err, err2, pause(ctx, long)); err != nil {
		return nil, err
	}
	after, err := prints(filepath.Join(d.root, "cfg"))
	later, err2 := d.cpu()
	if err = errors.Join(err, err2); err != nil {
		return nil, err
	}
	share := float64(later-cpu) / float64(long)
	rss, peak := d.memory()
	return []row{
		{name: name + "share of a core", ours: fmt.Sprintf("%.2f %%", share*100), target: "< 1 %",
			reached: yes(share < 0.01)},
		{name: name + "memory", ours: fmt.Sprintf("%s, at most %s", megabytes(rss), megabytes(peak)),
			target: "< 120 MB", reached: yes(rss < 120e6)},
		{name: name + "writes to cfg", ours: map[bool]string{true: "none", false: "some"}[before == after],
			target: "none", reached: yes(before == after)},
	}, nil
}

// prints returns a text that changes with every file and directory below dir.
func prints(dir string) (string, error) {
	var b strings.Builder
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	err = filepath.WalkDir(real, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := e.Info()
		if err == nil {
			fmt.Fprintln(&b, p, st.ModTime().UnixNano(), st.Size())
		}
		return err
	})
	return b.String(), err
}

// cpu returns how long the daemon's threads have run so far.
func (d *daemon) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	const tick = time.Second / 100 // USER_HZ
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}

// memory returns how much memory the daemon uses now, and the most that it has used, in bytes.
func (d *daemon) memory() (now, most int64) {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "VmRSS:":
			now = kb * 1024
		case "VmHWM:":
			most = kb * 1024
		}
	}
	return now, most
}

func (d *daemon) stop() error {
	if err := d.cmd.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	if err := d.cmd.Wait(); err != nil {
		return fmt.Errorf("daemon: %w\n%s", err, d.log.Bytes())
	}
	return nil
}
