package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"cfgd/overlay"
)

// peak returns the most memory that this process has used so far, in bytes. Linux's getrusage(2) also counts
// what the parent had at the fork. Therefore /proc is read first.
func peak() int64 {
	b, _ := os.ReadFile("/proc/self/status")
	if _, rest, ok := strings.Cut(string(b), "VmHWM:"); ok {
		var kb int64
		if _, err := fmt.Sscan(rest, &kb); err == nil {
			return kb * 1024
		}
	}
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return int64(u.Maxrss) * 1024
}

// manyResult is what the child reports about its heap, in bytes.
type manyResult struct {
	Alone  float64 // for each entry of a scan
	Shared float64 // for each entry of another scan that shares its paths
	Heap   int64   // of all targets, after a scan of each
	Peak   int64   // of the process
}

// benchMemory scans many targets in a process of its own. They share one live tree. This takes as much memory
// in cfgd as many trees would.
func benchMemory(ctx context.Context, l *lab) ([]row, error) {
	o, err := l.savedTarget(ctx)
	if err != nil {
		return nil, err
	}
	p := l.placesOf(o)
	var r manyResult
	if err := child(ctx, "many", p, l.targets, &r); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%d targets, each looked at and remembered: ", l.targets)
	return []row{
		{name: "memory of a scan", ours: fmt.Sprintf("%.0f bytes an entry, paths and all", r.Alone)},
		{name: "memory of a scan that shares base's paths",
			ours: fmt.Sprintf("%.0f bytes an entry", r.Shared)},
		{name: name + "heap", ours: megabytes(r.Heap), target: "< 120 MB", reached: yes(r.Heap < 120e6)},
		{name: name + "peak of the process", ours: megabytes(r.Peak)},
	}, nil
}

// childMany keeps the results of n targets, after two separate scans.
func childMany(ctx context.Context, p places, n int) (any, error) {
	var r manyResult
	first := &rescanner{o: newOverlay(p)}
	before := heap()
	if err := first.scan(ctx); err != nil {
		return nil, err
	}
	after := heap()
	entries := float64(len(first.prev.Entries))
	second := &rescanner{o: first.o, saved: first.prev}
	if err := second.scan(ctx); err != nil {
		return nil, err
	}
	r.Alone, r.Shared = float64(after-before)/entries, float64(heap()-after)/entries
	runtime.KeepAlive(first)
	runtime.KeepAlive(second)
	first, second = nil, nil
	before = heap()
	all, err := remember(ctx, p, n)
	r.Heap, r.Peak = heap()-before, peak()
	runtime.KeepAlive(all)
	return r, err
}

// remember makes n targets as the daemon does, and scans each.
func remember(ctx context.Context, p places, n int) ([]*overlay.Overlay, error) {
	r, err := newOverlay(p).Record()
	if err != nil {
		return nil, err
	}
	bases := overlay.NewBases()
	var all []*overlay.Overlay
	for i := range n {
		q := p
		q.Name, q.Cfg = fmt.Sprintf("many%d", i), filepath.Join(p.Cfg+"-many", fmt.Sprint(i))
		if err := os.MkdirAll(q.Cfg, 0o755); err != nil {
			return nil, err
		}
		o := newOverlay(q)
		o.Bases = bases
		if err := o.WriteRecord(r); err != nil {
			return nil, err
		}
		v, err := o.Look(ctx, overlay.LookOptions{})
		if err == nil && v.NotPopulated != nil {
			err = v.NotPopulated
		}
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	return all, nil
}

// heap returns how many bytes are in use after a garbage collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
