package dirfd

import (
	"fmt"
	"strconv"
	"strings"
)

// PresentIdentity is the identity of a record in the form that Identity gives. An older program on
// FreeBSD wrote fsid as signed numbers, and the birth time at the end. That time is left out, as
// utimes(2) moves it; what is before it says all. An identity in another form stays as it is.
//
// For an ordinary user, to whom FreeBSD reports neither fsid nor generation, an older program wrote
// "0.0/INODE.0/TIME". That lacks the device of the directory, which Identity has today, and so equals no
// identity of today: the live tree counts as unknown, and is adopted if it is certainly the right one.
func PresentIdentity(id string) string {
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

// fsidOf returns statfs(2)'s fsid in an identity. Its numbers are bits: they have no sign.
func fsidOf(a, b int32) string { return fmt.Sprintf("%x.%x", uint32(a), uint32(b)) }
