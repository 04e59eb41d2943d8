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
// What an older program wrote for an ordinary user, whom FreeBSD tells neither fsid nor generation, is
// "0.0/INODE.0/TIME". It does not say on which device the directory is, as Identity does today, and so it
// equals no identity of today: the live tree counts as one that is not known, and is taken over if it is
// beyond doubt the right one.
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

// fsidOf is statfs(2)'s fsid in an identity. Its numbers are bits: they have no sign.
func fsidOf(a, b int32) string { return fmt.Sprintf("%x.%x", uint32(a), uint32(b)) }
