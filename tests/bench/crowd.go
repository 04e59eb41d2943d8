package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"cfgd/overlay"
)

// crowdResult is what the child reports about its save.
type crowdResult struct {
	Took  time.Duration
	Peak  int64 // bytes
	Saved int   // files of cfg with the right content
}

// benchCrowd creates many files at once and saves them all, in a process of its own, so that its peak of
// memory can be measured.
func benchCrowd(ctx context.Context, l *lab) ([]row, error) {
	o, err := l.savedTarget(ctx)
	if err != nil {
		return nil, err
	}
	for i := range l.crowd {
		if err := writeCrowd(o.Target.Live, i); err != nil {
			return nil, err
		}
	}
	var r crowdResult
	if err := child(ctx, "crowd", l.placesOf(o), l.crowd, &r); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%d files created at once: ", l.crowd)
	each := r.Took / time.Duration(l.crowd)
	return []row{
		{name: name + "saved", ours: fmt.Sprint(r.Saved), target: "all", reached: yes(r.Saved == l.crowd)},
		{name: name + "time", ours: fmt.Sprintf("%s, %.2f ms a file", short(r.Took), ms(each))},
		{name: name + "peak memory of the process", ours: megabytes(r.Peak), target: "bounded"},
	}, nil
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// crowdFile returns the path and the content of the i-th file. Each directory holds a hundred.
func crowdFile(i int) (string, []byte) {
	return fmt.Sprintf("crowd/%03d/file%05d.conf", i/100, i), fmt.Appendf(nil, "number = %d\n", i)
}

func writeCrowd(live string, i int) error {
	name, content := crowdFile(i)
	full := filepath.Join(live, name)
	if i%100 == 0 {
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(full, content, 0o644)
}

// childCrowd saves n files, and checks whether each is in cfg.
func childCrowd(ctx context.Context, p places, n int) (any, error) {
	start := time.Now()
	if _, err := newOverlay(p).Save(ctx, overlay.SaveOptions{}); err != nil {
		return nil, err
	}
	r := crowdResult{Took: time.Since(start), Peak: peak()}
	for i := range n {
		name, want := crowdFile(i)
		if got, err := os.ReadFile(filepath.Join(p.Cfg, name)); err == nil && bytes.Equal(got, want) {
			r.Saved++
		}
	}
	return r, nil
}
