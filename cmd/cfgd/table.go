package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// table aligns columns, which rows separate by tabs, and leaves no blanks at the ends of lines.
type table struct {
	buf bytes.Buffer
	tab *tabwriter.Writer
}

func newTable() *table {
	t := &table{}
	t.tab = tabwriter.NewWriter(&t.buf, 0, 8, 2, ' ', 0)
	return t
}

// row adds a line of cells.
func (t *table) row(cells ...string) {
	fmt.Fprintln(t.tab, strings.Join(cells, "\t")) // to memory: it cannot fail
}

// print writes the table out.
func (t *table) print(w io.Writer) error {
	t.tab.Flush() // to memory
	for line := range strings.Lines(t.buf.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}
