package main

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress shows how many bytes are done, on a terminal, if the work takes more than a second.
type progress struct {
	bar   *progressbar.ProgressBar
	since time.Time
}

// newProgress begins work on total bytes; 0 if the number is not known.
func newProgress(w io.Writer, what string, total int64) *progress {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &progress{}
	}
	return &progress{newBar(f, what, total), time.Now()}
}

func newBar(w io.Writer, what string, total int64) *progressbar.ProgressBar {
	if total == 0 {
		total = -1
	}
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(what), progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetWidth(20), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(), progressbar.OptionUseIECUnits(true))
}

// at sets how many bytes are done.
func (p *progress) at(n int64) {
	if p.bar != nil && time.Since(p.since) > time.Second {
		_ = p.bar.Set64(n) // the work goes on if the bar can't be drawn
	}
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
