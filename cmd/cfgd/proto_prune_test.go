package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"cfgd/prototype"
)

// A snapshot that can't be destroyed keeps none of the others from it, is named, and shows in the exit code.
func TestPruneGoesOn(t *testing.T) {
	t.Parallel()
	all := []prototype.Candidate{{Name: "1"}, {Name: "2"}, {Name: "3"}}
	for _, c := range []struct {
		fails []string
		code  int
	}{{nil, exitDone}, {[]string{"1"}, exitSome}, {[]string{"1", "3"}, exitSome},
		{[]string{"1", "2", "3"}, exitFailed}} {
		var out strings.Builder
		var tried []string
		s := &session{out: io.Discard, err: &out}
		err := pruneSnapshots(t.Context(), s, "proto", all, nil, func(_ context.Context, name string) error {
			tried = append(tried, name)
			if slices.Contains(c.fails, name) {
				return errors.New("dataset is busy")
			}
			return nil
		})
		if !slices.Equal(tried, []string{"1", "2", "3"}) || exitCode(err) != c.code {
			t.Errorf("%v: tried %v, %v", c.fails, tried, err)
		}
		for _, name := range c.fails {
			want := fmt.Sprintf("cfgd: proto@%s: dataset is busy\n", name)
			if !strings.Contains(out.String(), want) {
				t.Errorf("%v: %q", c.fails, out.String())
			}
		}
	}
}
