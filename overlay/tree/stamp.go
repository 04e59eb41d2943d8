package tree

import (
	"time"

	"cfgd/internal/dirfd"
)

const (
	// granularity is how far apart two changes of a file must be to get different times on every supported
	// filesystem. UFS takes times from kern.hz unless vfs.timestamp_precision is set. FAT is not supported. A
	// file that changed less than this before the scan is read again next time.
	granularity = 20 * time.Millisecond
	// coarse is the granularity of filesystems that store whole seconds (vfs.timestamp_precision=0).
	coarse = 1100 * time.Millisecond
)

// Stamp shows whether a file changed between two scans: equal stamps mean that no change was seen.
type Stamp struct {
	ino          uint64
	ctime, mtime int64
	size         int64
}

// Stamp returns the entry's stamp.
func (e *Entry) Stamp() Stamp { return Stamp{e.stamp.ino, e.stamp.ctime, e.MTime, e.Size} }

// SameSince reports whether a file is certainly unchanged between the scan that found it and st.
func (e *Entry) SameSince(st dirfd.Stat) bool { return !e.stamp.fresh && Unmoved(e, st) }

// settled reports whether the content is certainly the same in the earlier scan's e and the present now.
func (e *Entry) settled(now *Entry) bool {
	return e.Kind == dirfd.KindFile && e.Unread == "" && !e.stamp.fresh && e.Digest != (Digest{}) &&
		e.stamp.ino == now.stamp.ino && e.stamp.ctime == now.stamp.ctime &&
		e.MTime == now.MTime && e.Size == now.Size
}

// settledLink is settled for a symbolic link. The target of a link can't change while the inode stays the
// same.
func (e *Entry) settledLink(now *Entry) bool {
	return e.Kind == dirfd.KindSymlink && !e.stamp.fresh && e.stamp.ino == now.stamp.ino &&
		e.stamp.ctime == now.stamp.ctime
}

// still reports whether a directory's own names and attributes are certainly the same in the earlier scan's e
// and the present now.
func (e *Entry) still(now *Entry) bool {
	return e.Kind == dirfd.KindDir && !e.stamp.fresh && e.stamp.ino == now.stamp.ino &&
		e.stamp.ctime == now.stamp.ctime &&
		e.MTime == now.MTime
}

// fresh reports whether the file changed so shortly before now that a later change could get the same time.
func (e *Entry) fresh(now int64) bool {
	limit := int64(granularity)
	if e.stamp.ctime%int64(time.Second) == 0 {
		limit = int64(coarse)
	}
	return e.stamp.ctime > now-limit
}

// Unmoved reports whether st shows the file that the entry describes, unchanged.
func Unmoved(e *Entry, st dirfd.Stat) bool {
	return st.Ino == e.stamp.ino && st.Size == e.Size && st.MTime == e.MTime && st.CTime == e.stamp.ctime
}
