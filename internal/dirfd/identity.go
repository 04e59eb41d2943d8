package dirfd

import (
	"fmt"
	"strconv"
	"strings"
)

// SameIdentity reports whether two identities, of a record and of a directory, are of one directory. A record
// that an older program made on FreeBSD still counts: it has fsid as signed numbers and the birth time at its
// end. That time is left out, as utimes(2) moves it; what is before it says all.
func SameIdentity(a, b string) bool { return a != "" && current(a) == current(b) }

// current is an identity in its present form. One that is in no known form stays as it is.
func current(id string) string {
	f := strings.Split(id, "/")
	if len(f) != 3 {
		return id
	}
	x, y, ok := strings.Cut(f[0], ".")
	a, errA := strconv.ParseInt(x, 16, 64)
	b, errB := strconv.ParseInt(y, 16, 64)
	if !ok || errA != nil || errB != nil {
		return id
	}
	return fsidOf(int32(a), int32(b)) + "/" + f[1]
}

// fsidOf is statfs(2)'s fsid in an identity. Its numbers are bits: they have no sign.
func fsidOf(a, b int32) string { return fmt.Sprintf("%x.%x", uint32(a), uint32(b)) }
