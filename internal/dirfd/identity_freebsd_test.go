package dirfd

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// The record that an older program wrote of a directory is still of that directory, wherever its birth time
// went.
func TestIdentityOfOlderProgram(t *testing.T) {
	t.Parallel()
	d, err := Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var sfs unix.Statfs_t
	var st unix.Stat_t
	if err := unix.Fstatfs(d.Fd(), &sfs); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fstat(d.Fd(), &st); err != nil {
		t.Fatal(err)
	}
	if sfs.Fsid.Val == [2]int32{} {
		t.Skip("an ordinary user is not told fsid and generation")
	}
	fsid := sfs.Fsid.Val
	older := fmt.Sprintf("%x.%x/%d.%d/%d.%d", fsid[0], fsid[1], st.Ino, st.Gen, st.Btim.Sec, st.Btim.Nsec)
	if err := d.Utimes("", 1); err != nil {
		t.Fatal(err)
	}
	if now, err := d.Identity(); err != nil || !SameIdentity(older, now) {
		t.Errorf("recorded as %s, now %s, %v", older, now, err)
	}
}
