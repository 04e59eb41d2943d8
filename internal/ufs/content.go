package ufs

import "io"

// block returns where a block of a file is in the image, in bytes, 0 for a hole.
func (f *FS) block(n *inode, lbn int64) (int64, error) {
	if lbn < direct {
		return f.place(n, n.addrs[lbn])
	}
	width := f.bsize / 4
	if f.two {
		width = f.bsize / 8
	}
	lbn -= direct
	span := int64(1)
	for level := range 3 {
		if span *= width; lbn < span {
			return f.indirect(n, n.addrs[direct+level], lbn, span, width)
		}
		lbn -= span
	}
	return 0, f.bad(n.Ino, "more blocks than a file can have")
}

// indirect follows addresses down from a block that leads to span blocks, to the one of number lbn among
// them.
func (f *FS) indirect(n *inode, addr, lbn, span, width int64) (int64, error) {
	for {
		at, err := f.place(n, addr)
		if err != nil || at == 0 || span == 1 {
			return at, err
		}
		span /= width
		if addr, err = f.pointer(n, at, lbn/span); err != nil {
			return 0, err
		}
		lbn %= span
	}
}

// pointer reads one address of an indirect block.
func (f *FS) pointer(n *inode, at, i int64) (int64, error) {
	b := make([]byte, 8)
	if f.two {
		err := f.read(n.Ino, b, at+8*i)
		return int64(u64(b, 0)), err
	}
	err := f.read(n.Ino, b[:4], at+4*i)
	return i32(b, 0), err
}

func (f *FS) place(n *inode, addr int64) (int64, error) {
	if addr < 0 || addr > f.size/f.fsize {
		return 0, f.bad(n.Ino, "a block at fragment %d of an image of %d", addr, f.size/f.fsize)
	}
	return addr * f.fsize, nil
}

// content reads a file's content.
type content struct {
	f *FS
	n *inode
}

func (c *content) ReadAt(p []byte, at int64) (int, error) {
	done := 0
	for done < len(p) {
		if at >= c.n.Size {
			return done, io.EOF
		}
		off := at % c.f.bsize
		n := min(int64(len(p)-done), c.f.bsize-off, c.n.Size-at)
		where, err := c.f.block(c.n, at/c.f.bsize)
		if err != nil {
			return done, err
		}
		if where == 0 {
			clear(p[done : done+int(n)])
		} else if err := c.f.read(c.n.Ino, p[done:done+int(n)], where+off); err != nil {
			return done, err
		}
		done, at = done+int(n), at+n
	}
	return done, nil
}
