package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"cfgd/prototype"
)

// A snapshot that can't be destroyed keeps none of the others from it, is named, and shows in the exit code.
func TestPruneGoesOn(t *testing.T) {
	t.Parallel()
	all := []prototype.Snapshot{{Name: "1"}, {Name: "2"}, {Name: "3"}}
	for _, c := range []struct {
		fails []int
		code  int
	}{{nil, exitDone}, {[]int{0}, exitSome}, {[]int{0, 2}, exitSome}, {[]int{0, 1, 2}, exitFailed}} {
		var out strings.Builder
		var tried []int
		s := &session{err: &out}
		err := s.pruneEach(all, func(i int) error {
			tried = append(tried, i)
			if slices.Contains(c.fails, i) {
				return errors.New("dataset is busy")
			}
			return nil
		}, "proto")
		if !slices.Equal(tried, []int{0, 1, 2}) || exitCode(err) != c.code {
			t.Errorf("%v: tried %v, %v", c.fails, tried, err)
		}
		for _, i := range c.fails {
			want := fmt.Sprintf("cfgd: proto@%d: dataset is busy\n", i+1)
			if !strings.Contains(out.String(), want) {
				t.Errorf("%v: %q", c.fails, out.String())
			}
		}
	}
}
