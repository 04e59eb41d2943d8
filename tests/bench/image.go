package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"cfgd/config"
	"cfgd/internal/disk/disktest"
	"cfgd/internal/mount"
	"cfgd/internal/run"
	"cfgd/nano"
)

// imageMiB is the size of the image that is installed.
const imageMiB = 192

// benchImage writes a plain image into a slice of a disk in a file. The peer is dd(1), which only copies.
// cfgd also checks, reads back and compares.
func benchImage(ctx context.Context, l *lab) ([]row, error) {
	name := fmt.Sprintf("a plain image of %d MiB to a slice, read back", imageMiB)
	if _, err := exec.LookPath("makefs"); err != nil {
		return []row{{name: name, peer: "skipped: makefs not installed"}}, nil
	}
	img, err := l.image(ctx)
	if err != nil {
		return nil, err
	}
	const sectors = imageMiB << 11
	file := filepath.Join(l.disk, "drive")
	head := disktest.MBR(1, disktest.Slice{Index: 1, Start: 63, Count: 2048, Type: 0xa5, Active: true},
		disktest.Slice{Index: 2, Start: 4096, Count: sectors, Type: 0xa5})
	if err := os.WriteFile(file, head, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(file, (sectors+8192)<<9); err != nil {
		return nil, err
	}
	m := &nano.Disk{Nano: config.Nano{Drive: "ada0", Kind: "s", Running: 1}, File: file,
		RunDir: filepath.Join(l.dir, "run"), Run: run.System{},
		Mounted: func() ([]mount.Mount, error) { return nil, nil }}
	ours := &contestant{name: "nano install", run: func() error {
		f, err := os.Open(img)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = m.Install(ctx, nano.Install{From: f, Progress: func(int64) {}})
		return err
	}}
	dd := &contestant{name: "dd bs=1m", tools: []string{"dd"}, run: func() error {
		return exec.CommandContext(ctx, "dd", "if="+img, "of="+file, "bs=1M", "seek=2",
			"conv=notrunc,fsync").Run()
	}}
	cmp := &contestant{name: "dd, cmp", tools: []string{"dd", "cmp"}, run: func() error {
		if err := dd.run(); err != nil {
			return err
		}
		return exec.CommandContext(ctx, "cmp", "-n", fmt.Sprint(imageMiB<<20), "-i", "0:2097152", img,
			file).Run()
	}}
	if err := race(ctx, min(l.rounds, 5), ours, dd, cmp); err != nil {
		return nil, err
	}
	return []row{against(name, ours, dd, 1/0.95), against("the same", ours, cmp, 0)}, nil
}

// image makes an image of a slice with makefs(8).
func (l *lab) image(ctx context.Context) (string, error) {
	tree := filepath.Join(l.disk, "system")
	if err := os.MkdirAll(filepath.Join(tree, "conf/base/etc"), 0o755); err != nil {
		return "", err
	}
	content := make([]byte, (imageMiB-16)<<20)
	if _, err := rand.Read(content); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(tree, "programs"), content, 0o644); err != nil {
		return "", err
	}
	fs := filepath.Join(l.disk, "fs")
	const part = 16 // sectors before the filesystem
	if err := command(ctx, "makefs", "-t", "ffs", "-o", "version=2", "-s", fmt.Sprint(imageMiB<<20-part<<9),
		fs, tree); err != nil {
		return "", err
	}
	b, err := os.ReadFile(fs)
	if err != nil {
		return "", err
	}
	boot := make([]byte, part<<9)
	boot[510], boot[511] = 0x55, 0xaa // boot1
	copy(boot[512:], disktest.Label(0, imageMiB<<11,
		map[byte]disktest.Part{'a': {Start: part, Count: imageMiB<<11 - part}}))
	img := filepath.Join(l.disk, "image")
	return img, os.WriteFile(img, append(boot, b...), 0o644)
}
