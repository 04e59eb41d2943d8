package merge

import (
	"errors"
	"io/fs"
	"strconv"

	"cfgd/internal/dirfd"
	"cfgd/overlay/tree"
)

// SideOf returns an entry as one side of a comparison; nil is no entry. read reads its content. The
// content of a secret is not read.
func SideOf(
	e *tree.Entry, label string, secret bool, read func(*tree.Entry, string) ([]byte, error),
) (Side, error) {
	s := Side{Label: label}
	if e == nil {
		return s, nil
	}
	s.Exists, s.Kind, s.Mode, s.Size = true, Kind(e.Kind.String()), e.Mode, e.Size
	s.Owner = strconv.Itoa(int(e.UID)) + ":" + strconv.Itoa(int(e.GID))
	s.Flags, s.Digest = dirfd.FlagNames(e.Flags), e.Digest.String()
	switch {
	case e.Kind == dirfd.KindSymlink:
		s.Content = []byte(e.Link)
	case e.Kind != dirfd.KindFile:
	case secret:
		s.Omitted = "secret"
	case e.Unread != "":
		s.Omitted = string(e.Unread)
	default:
		b, err := read(e, label)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, dirfd.ErrNotRegular):
			s.Omitted = "no longer there"
		case err != nil:
			return s, err
		default:
			s.Content = b
		}
	}
	return s, nil
}
