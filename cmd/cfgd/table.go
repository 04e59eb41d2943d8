package main

import (
	"bytes"
	"fmt"
	"strings"
	"text/tabwriter"
)

// table aligns the cells of its rows, and leaves no blanks at the ends of lines.
type table struct {
	buf   bytes.Buffer
	tab   *tabwriter.Writer
	rows  int
	notes map[int]string // by the number of the row that they follow
}

func newTable() *table {
	t := &table{notes: map[int]string{}}
	t.tab = tabwriter.NewWriter(&t.buf, 0, 8, 2, ' ', 0)
	return t
}

// row adds a line of cells.
func (t *table) row(cells ...string) {
	fmt.Fprintln(t.tab, strings.Join(cells, "\t")) // to memory: it cannot fail
	t.rows++
}

// note puts a line of text under the last row, for what is too long for a cell.
func (t *table) note(text string) { t.notes[t.rows] = text }

// print writes the table out.
func (t *table) print(b *strings.Builder) {
	t.tab.Flush() // to memory
	row := 0
	for line := range strings.Lines(t.buf.String()) {
		fmt.Fprintln(b, strings.TrimRight(line, " \n"))
		row++
		if n, ok := t.notes[row]; ok {
			fmt.Fprintf(b, "  %s\n", n)
		}
	}
}
