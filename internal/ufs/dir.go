package ufs

import (
	"io/fs"
	"iter"
	"strings"
)

const (
	dirBlock = 512       // DIRBLKSIZ of sys/ufs/ufs/dir.h
	dirChunk = 128 * 512 // that is read at once
)

// name is a name of a directory.
type name struct {
	ino  uint64
	name string
}

// names yields the names of a directory in its order, without "." and "..", free and hidden ones. It ends
// with the first error.
func (f *FS) names(n *inode) iter.Seq2[name, error] {
	return func(yield func(name, error) bool) {
		if n.Mode.Type() != fs.ModeDir {
			yield(name{}, f.bad(n.Ino, "no directory"))
			return
		}
		b := make([]byte, min(n.Size, dirChunk))
		for at := int64(0); at < n.Size; at += int64(len(b)) {
			b = b[:min(int64(len(b)), n.Size-at)]
			if _, err := (&content{f, n}).ReadAt(b, at); err != nil {
				yield(name{}, err)
				return
			}
			if !f.entries(n, b, at, yield) {
				return
			}
		}
	}
}

// entries yields the names in a chunk of a directory, of whole blocks unless it is the last.
func (f *FS) entries(n *inode, b []byte, at int64, yield func(name, error) bool) bool {
	for off := 0; off < len(b); {
		x, length, err := f.entry(n, b[off:min((off/dirBlock+1)*dirBlock, len(b))], at+int64(off))
		if err != nil {
			yield(x, err)
			return false
		}
		off += length
		if x.ino == 0 || x.ino == whiteIno || x.name == "." || x.name == ".." {
			continue
		}
		if !yield(x, nil) {
			return false
		}
	}
	return true
}

// entry parses struct direct at the beginning of the rest of its block, and returns its length. No entry
// crosses the block's end.
func (f *FS) entry(n *inode, b []byte, at int64) (x name, length int, err error) {
	if len(b) < 8 {
		return x, 0, f.bad(n.Ino, "a directory that ends in an entry, at %d", at)
	}
	length, namlen := int(u16(b, 4)), int(b[7])
	if length < 8 || length%4 != 0 || length > len(b) || 8+namlen > length {
		return x, 0, f.bad(n.Ino, "an entry of %d bytes with a name of %d, at %d", length, namlen, at)
	}
	x = name{uint64(u32(b, 0)), string(b[8 : 8+namlen])}
	if x.ino != 0 && (x.name == "" || strings.ContainsAny(x.name, "/\x00")) {
		return x, 0, f.bad(n.Ino, "a name %q, at %d", x.name, at)
	}
	return x, length, nil
}

// find follows a path from the root. No link is followed.
func (f *FS) find(p string) (*inode, error) {
	n, err := f.inode(rootIno)
	if err != nil {
		return nil, err
	}
	for part := range strings.SplitSeq(p, "/") {
		if part == "" {
			continue
		}
		ino, err := f.lookup(n, part)
		if err != nil {
			return nil, err
		}
		if ino == 0 {
			return nil, &fs.PathError{Op: "open", Path: p, Err: fs.ErrNotExist}
		}
		if n, err = f.inode(ino); err != nil {
			return nil, err
		}
	}
	n.Path = p
	return n, nil
}

// Names returns the names in a directory.
func (f *FS) Names(dir string) ([]string, error) {
	n, err := f.find(dir)
	if err != nil {
		return nil, err
	}
	all := []string{}
	for x, err := range f.names(n) {
		if err != nil {
			return nil, err
		}
		if all = append(all, x.name); len(all) > maxEntries {
			return nil, f.bad(n.Ino, "more than %d names", maxEntries)
		}
	}
	return all, nil
}

// lookup returns the inode of the first entry with a name, as the kernel does, 0 if none has it.
func (f *FS) lookup(n *inode, part string) (uint64, error) {
	for x, err := range f.names(n) {
		if err != nil || x.name == part {
			return x.ino, err
		}
	}
	return 0, nil
}

// Stat returns the entry at a path from the root, "" for the root itself.
func (f *FS) Stat(p string) (*Entry, error) {
	n, err := f.find(p)
	if err != nil {
		return nil, err
	}
	return &n.Entry, nil
}
