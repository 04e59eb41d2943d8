package main

import (
	"strings"
	"testing"
)

// What is in brackets may be left out.
func TestOutsideBrackets(t *testing.T) {
	t.Parallel()
	for usage, want := range map[string]string{
		"": "", "[TARGET [PATH…]]": "", "TARGET N [PATH]": "TARGET N", "[NAME…] HOST[:DATASET]": "HOST",
		"NAME…|ALL SNAPSHOT": "NAME…|ALL SNAPSHOT",
	} {
		if got := strings.Join(strings.Fields(outside(usage)), " "); got != want {
			t.Errorf("%q: %q", usage, got)
		}
	}
}
