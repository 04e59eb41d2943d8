// Package esp reads an EFI system partition, to find which loader is in it. It reads FAT12, FAT16 and
// FAT32 as newfs_msdos(8) and makefs(8) make them; small partitions are FAT12 or FAT16.
//
// What always holds: the partition may be hostile. Nothing outside of it is read, and no directory, file
// or chain of clusters takes more memory or time than the bounds below. The package never writes. It
// reads 8.3 names, which every name that EFI requires has, and ignores long names.
package esp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Bounds on what a partition can make a reader do.
const (
	maxFile    = 8 << 20 // bytes: FreeBSD's loaders are below 1 MiB
	maxEntries = 4096    // of a directory
	entrySize  = 32
)

// ErrFormat reports that something is no FAT, or a damaged one.
var ErrFormat = errors.New("no EFI system partition that can be read")

// FS is an open FAT filesystem. All positions are in bytes.
type FS struct {
	r        io.ReaderAt
	size     int64
	bits     int   // of an entry of the table: 12, 16 or 32
	table    int64 // where it begins
	root     int64 // where the root directory of FAT12 and FAT16 begins
	rootSize int64
	rootAt   uint32 // its first cluster on FAT32
	data     int64  // where cluster 2 begins
	cluster  int64
	clusters int64
}

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

func u16(b []byte, at int) int64 { return int64(binary.LittleEndian.Uint16(b[at:])) }
func u32(b []byte, at int) int64 { return int64(binary.LittleEndian.Uint32(b[at:])) }

// Open reads the BIOS parameter block of a partition of the given size in bytes: sys/fs/msdosfs/bpb.h.
func Open(r io.ReaderAt, size int64) (*FS, error) {
	f := &FS{r: r, size: size}
	b := make([]byte, 512)
	if err := f.read(b, 0); err != nil {
		return nil, err
	}
	sector, reserved, tables, entries := u16(b, 11), u16(b, 14), int64(b[16]), u16(b, 17)
	total, length := u16(b, 19), u16(b, 22)
	if total == 0 {
		total = u32(b, 32)
	}
	if length == 0 {
		f.bits, length, f.rootAt = 32, u32(b, 36), uint32(u32(b, 44))
	}
	f.cluster = int64(b[13]) * sector
	switch {
	case b[510] != 0x55 || b[511] != 0xaa:
		return nil, bad("its first sector ends with %02x%02x", b[510], b[511])
	case !power(sector, 512, 4096), !power(int64(b[13]), 1, 128), tables < 1, tables > 2, reserved < 1,
		length < 1:
		return nil, bad("sectors of %d bytes, clusters of %d sectors, %d tables", sector, b[13], tables)
	case total*sector > size:
		return nil, bad("%d sectors of %d bytes in a partition of %d", total, sector, size)
	}
	f.table, f.root, f.rootSize = reserved*sector, (reserved+tables*length)*sector, entries*entrySize
	f.data = f.root + (f.rootSize+sector-1)/sector*sector
	f.clusters = (total*sector - f.data) / f.cluster
	switch {
	case f.clusters < 1:
		return nil, bad("no room for files")
	case f.bits == 32:
	case f.clusters < 4085: // how every reader of FAT distinguishes them: 12 bits can name so many clusters
		f.bits = 12
	default:
		f.bits = 16
	}
	if (f.clusters+2)*int64(f.bits)/8 > length*sector {
		return nil, bad("%d clusters, and a table of %d bytes", f.clusters, length*sector)
	}
	return f, nil
}

func power(n, low, high int64) bool { return n >= low && n <= high && n&(n-1) == 0 }

func (f *FS) read(b []byte, at int64) error {
	if at < 0 || at > f.size || int64(len(b)) > f.size-at {
		return bad("%d bytes at %d of a partition of %d", len(b), at, f.size)
	}
	if n, err := f.r.ReadAt(b, at); n < len(b) {
		return fmt.Errorf("read at %d: %w", at, err)
	}
	return nil
}

// next returns the cluster after one in its file, false at the end.
func (f *FS) next(n uint32) (uint32, bool, error) {
	b := make([]byte, 4)
	switch f.bits {
	case 12:
		if err := f.read(b[:2], f.table+int64(n)*3/2); err != nil {
			return 0, false, err
		}
		n = uint32(u16(b, 0)) >> (n % 2 * 4) & 0xfff
		return n, n < 0xff8, nil
	case 16:
		err := f.read(b[:2], f.table+int64(n)*2)
		n = uint32(u16(b, 0))
		return n, n < 0xfff8, err
	}
	err := f.read(b, f.table+int64(n)*4)
	n = uint32(u32(b, 0)) & 0x0fffffff
	return n, n < 0x0ffffff8, err
}

// chain reads the content that begins at a cluster, to its end or up to so many bytes. So a circular
// chain ends.
func (f *FS) chain(n uint32, size int64) ([]byte, error) {
	var all []byte
	for int64(len(all)) < size {
		if n < 2 || int64(n) >= f.clusters+2 {
			return nil, bad("cluster %d of %d", n, f.clusters)
		}
		b := make([]byte, min(f.cluster, size-int64(len(all))))
		if err := f.read(b, f.data+int64(n-2)*f.cluster); err != nil {
			return nil, err
		}
		all = append(all, b...)
		next, more, err := f.next(n)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		n = next
	}
	return all, nil
}

// Entry is a name of a directory.
type Entry struct {
	Name string // 8.3, as stored: in capitals
	Dir  bool
	Size int64

	first uint32
}

// list reads a directory by its first cluster, 0 for the root.
func (f *FS) list(first uint32) ([]Entry, error) {
	var b []byte
	var err error
	switch {
	case first == 0 && f.bits != 32:
		b = make([]byte, min(f.rootSize, maxEntries*entrySize))
		err = f.read(b, f.root)
	case first == 0:
		b, err = f.chain(f.rootAt, maxEntries*entrySize)
	default:
		b, err = f.chain(first, maxEntries*entrySize)
	}
	if err != nil {
		return nil, err
	}
	var all []Entry
	// struct direntry of sys/fs/msdosfs/direntry.h; 0 ends a directory
	for ; len(b) >= entrySize && b[0] != 0; b = b[entrySize:] {
		const free, volume = 0xe5, 0x08 // a part of a long name has volume's bit too
		if b[0] == free || b[11]&volume != 0 {
			continue
		}
		name := strings.TrimRight(string(b[:8]), " ")
		if ext := strings.TrimRight(string(b[8:11]), " "); ext != "" {
			name += "." + ext
		}
		e := Entry{Name: name, Dir: b[11]&0x10 != 0, Size: u32(b, 28), first: uint32(u16(b, 26))}
		if f.bits == 32 {
			e.first |= uint32(u16(b, 20)) << 16
		}
		all = append(all, e)
	}
	return all, nil
}

// List lists a directory by its path, "" for the root. Case does not matter.
func (f *FS) List(dir string) ([]Entry, error) {
	at := uint32(0)
	for part := range strings.SplitSeq(dir, "/") {
		if part == "" {
			continue
		}
		all, err := f.list(at)
		if err != nil {
			return nil, err
		}
		e, ok := named(all, part)
		if !ok || !e.Dir || e.first == 0 {
			return nil, &fs.PathError{Op: "open", Path: dir, Err: fs.ErrNotExist}
		}
		at = e.first
	}
	return f.list(at)
}

func named(all []Entry, name string) (Entry, bool) {
	for _, e := range all {
		if strings.EqualFold(e.Name, name) {
			return e, true
		}
	}
	return Entry{}, false
}

// Read reads a file that List named.
func (f *FS) Read(e Entry) ([]byte, error) {
	if e.Dir || e.Size > maxFile {
		return nil, bad("%s is no file of a loader: %d bytes", e.Name, e.Size)
	}
	b, err := f.chain(e.first, e.Size)
	if err == nil && int64(len(b)) < e.Size {
		err = bad("%s ends after %d of %d bytes", e.Name, len(b), e.Size)
	}
	return b, err
}
