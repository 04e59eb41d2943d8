package nano

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"cfgd/internal/disk"
	"cfgd/internal/hostfile"
)

// Table reads the disk's table.
func (d *Disk) Table(ctx context.Context) (*Table, error) {
	f, size, err := d.open(ctx, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	read, err := disk.Read(f, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.File, err)
	}
	t := &Table{read, d}
	if len(t.systems()) < 2 {
		return nil, fmt.Errorf("%s: %w: it has no two slices for systems", d.File, disk.ErrTable)
	}
	loaders{t, f}.find(d.bootMethod(ctx))
	return t, nil
}

// systems returns the two slices that hold systems. On a GPT with labels these are the two with the labels.
// Otherwise they are the first two that may hold a system and that fstab does not mount elsewhere, because
// NanoBSD's embedded layouts have cfg before them.
func (t *Table) systems() []disk.Slice {
	l := t.disk.layout()
	var all []disk.Slice
	if l.Label() == "gpt" {
		for n := 1; n <= 2; n++ {
			for _, s := range t.Slices {
				if isCode(t.Table, s) && "/dev/gpt/"+s.Label == l.Source(n) {
					all = append(all, s)
				}
			}
		}
		return all[:min(len(all), 2)]
	}
	for _, s := range t.Slices {
		if isCode(t.Table, s) && !(l.Kind != "" && slices.Contains(l.Others, s.Index)) && len(all) < 2 {
			all = append(all, s)
		}
	}
	return all
}

// NextName returns the name of the slice that boots next; "?" if it is not known, or not in the table.
func (t *Table) NextName() string {
	if n := t.Next(); n != 0 {
		return t.disk.Name(n)
	}
	return "?"
}

// Doubts tells what makes it unsure which slice boots next.
func (t *Table) Doubts() []string {
	all := t.Table.Doubts()
	next := t.Next()
	code := t.systems()
	if next != 0 && len(code) == 2 && next != code[0].Index && next != code[1].Index {
		all = append(all, t.disk.Name(next)+" boots next, which is no slice for a system: "+
			"cfgd nano activate takes that from it")
	}
	return all
}

// trying reports whether the loader booted the running slice once, and will boot the other one next time.
func (t *Table) trying() bool {
	d := t.disk
	for _, s := range t.systems() {
		if s.Index == t.Next() {
			return t.CanTryOnce() && s.Index != d.Running && !s.Once && d.notes().chosen() != s.Index
		}
	}
	return false
}

// Slices returns the two slices with systems, and the table.
func (d *Disk) Slices(ctx context.Context) ([]Slice, *Table, error) {
	t, err := d.Table(ctx)
	if err != nil {
		return nil, nil, err
	}
	f, _, err := d.open(ctx, os.O_RDONLY)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	var all []Slice
	known, failed := false, d.notes().failed()
	for _, s := range t.systems() {
		x := Slice{
			Slice: s, Name: d.Name(s.Index), Number: d.number(s.Index), Source: d.source(s.Index),
			Running: s.Index == d.Running, Next: s.Index == t.Next(),
			Trial: s.Index == d.Running && t.trying(),
		}
		x.Failed = x.Failed || failed[s.Index]
		x.Image = imageIn(&part{f, s.Start, s.Size}, s.Size, t.Loader, x.Running)
		known = known || x.Running
		all = append(all, x)
	}
	if !known {
		return nil, nil, fmt.Errorf("%s: / is on %s, which is none of %s and %s", d.Origin, d.Name(d.Running),
			all[0].Name, all[1].Name)
	}
	return all, t, nil
}

// NoteFailed writes a note of the systems that their loader could not start, and returns the names of their
// slices. Earlier notes of this start of the machine stay.
func (d *Disk) NoteFailed(ctx context.Context) ([]string, error) {
	t, err := d.Table(ctx)
	if err != nil {
		return nil, err
	}
	noted := d.notes().failed()
	var names, lines []string
	for _, s := range t.systems() {
		if s.Index != d.Running && (s.Failed || noted[s.Index]) {
			names = append(names, d.Name(s.Index))
			lines = append(lines, strconv.Itoa(s.Index)+"\n")
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	return names, hostfile.WriteVolatile(d.notes().failures(), []byte(strings.Join(lines, "")), 0o644)
}
