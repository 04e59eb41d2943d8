package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/internal/disk"
	"cfgd/internal/pathname"
	"cfgd/nano"
)

func nanoStatusCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "show the slices: which one runs, which one boots next",
		Description: "" +
			"Prints one line for each slice, with its state (running, boots next, on trial, failed " +
			"to boot), its filesystem's label, and when its image was made. The last line tells " +
			"what the disk's loader can do for a trial. A warning names a slice that cannot boot, " +
			"because its filesystem is damaged or cut off, or has no loader or no kernel.",
		Action: s.action(runNanoStatus),
	}
}

// listedSlice is the JSON of a slice.
type listedSlice struct {
	Name    string     `json:"name"`
	Size    int64      `json:"size"` // bytes
	Running bool       `json:"running"`
	Next    bool       `json:"next"`
	Once    bool       `json:"once,omitempty"`
	Failed  bool       `json:"failed,omitempty"`
	Trial   bool       `json:"trial,omitempty"`
	Label   string     `json:"label,omitempty"`
	Date    *time.Time `json:"date,omitempty"`
	Trouble string     `json:"trouble,omitempty"`
}

func runNanoStatus(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	d, err := m.disk(c.Context, s.warnMachine)
	if err != nil {
		return err
	}
	all, t, err := d.Slices(c.Context)
	if err != nil {
		return err
	}
	for _, n := range slices.Concat(t.Notes, t.Doubts()) {
		s.warn("", d.Drive+": "+n)
	}
	tried, err := nano.OnTrial(c.Context, all, m.trials(d))
	if err != nil {
		s.warn("", err.Error())
	}
	list := listSlices(all, tried)
	if err := s.print(struct {
		Version int           `json:"version"`
		Scheme  string        `json:"scheme"`
		Loader  disk.Loader   `json:"loader,omitempty"` // left out if it is not known
		Next    string        `json:"next"`             // "?" if it is not known
		Slices  []listedSlice `json:"slices"`
		Doubts  []string      `json:"doubts,omitempty"`
	}{1, t.Scheme, t.Loader, t.NextName(), list, t.Doubts()},
		func(b *strings.Builder) { printSlices(b, list, t) }); err != nil || s.json {
		return err
	}
	for _, l := range list {
		switch {
		case l.Trouble == "":
		case l.Next:
			s.warn(l.Name, "boots next, and cannot boot: "+pathname.Plain(l.Trouble))
		default:
			s.warn(l.Name, "cannot boot: "+pathname.Plain(l.Trouble))
		}
	}
	return nil
}

// listSlices describes slices. tried is the index of the one on trial.
func listSlices(all []nano.Slice, tried int) []listedSlice {
	list := []listedSlice{}
	for _, x := range all {
		l := listedSlice{
			Name: x.Name, Size: x.Size, Running: x.Running, Next: x.Next, Once: x.Once, Failed: x.Failed,
			Trial: x.Index == tried, Label: x.Image.Label, Trouble: x.Image.Trouble,
		}
		if !x.Image.Date.IsZero() {
			l.Date = &x.Image.Date
		}
		list = append(list, l)
	}
	return list
}

func printSlices(b *strings.Builder, list []listedSlice, t *nano.Table) {
	w := newTable()
	w.row("SLICE", "SIZE", "STATE", "LABEL", "IMAGE OF")
	for _, l := range list {
		when := "-"
		if l.Date != nil {
			when = l.Date.Local().Format(time.DateTime)
		}
		w.row(l.Name, bytesText(uint64(l.Size)), dash(strings.Join(stateWords(l), ", ")),
			dash(pathname.Plain(l.Label)), when)
	}
	w.print(b)
	fmt.Fprintln(b, onceWords(t))
}

// onceWords tells which loader boots the disk, and who goes back from a system that is on trial.
func onceWords(t *nano.Table) string {
	name := cmp.Or(string(t.Loader), "a loader that is not known")
	if t.CanTryOnce() {
		return "booted by " + name + ", which can boot a system once and go back by itself"
	}
	return "booted by " + name + ", which cannot boot a system once: a trial is cfgd's own"
}

func stateWords(l listedSlice) []string {
	var words []string
	for _, x := range []struct {
		is   bool
		word string
	}{
		{l.Running, "running"}, {l.Trial, "on trial"}, {l.Next && l.Once, "boots next, once"},
		{l.Next && !l.Once, "boots next"}, {l.Failed, "failed to boot"},
	} {
		if x.is {
			words = append(words, x.word)
		}
	}
	return words
}
