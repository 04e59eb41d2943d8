package watcher

import (
	"cmp"
	"slices"
	"strings"
)

func sortedWrites(w []write) []write {
	return slices.SortedStableFunc(slices.Values(w), func(a, b write) int { return cmp.Compare(a.at, b.at) })
}

func sortedSaves(s []saved) []saved {
	return slices.SortedFunc(slices.Values(s), func(a, b saved) int {
		return cmp.Or(cmp.Compare(a.at, b.at), strings.Compare(a.path, b.path))
	})
}

func cut(s, prefix string) (string, bool) { return strings.CutPrefix(s, prefix) }
