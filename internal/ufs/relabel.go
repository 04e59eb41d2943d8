package ufs

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Edit is a change of bytes of an image. It crosses no boundary of sectors.
type Edit struct {
	At    int64
	Bytes []byte
}

// What sys/ufs/ffs/fs.h calls MAXVOLLEN and CK_SUPERBLOCK, and where in struct fs its fields are.
const (
	maxVolume    = 32
	ckSuperblock = 1
	atSize       = 104 // fs_sbsize
	atVolume     = 680 // fs_volname
	atProvider   = 872 // fs_providersize
	atHash       = 1304
	atHashed     = 1308 // fs_metackhash
)

// Relabel returns the changes that give a filesystem a label, as tunefs -L does: in the superblock in
// use, not in its copies. It also sets the size of the provider (fs_providersize), because GEOM only
// shows the label of a filesystem that fills its provider. A superblock with a check hash (since FreeBSD
// 13; ffs_calc_sbhash of sys/ufs/ffs/ffs_subr.c) gets a new hash.
func (f *FS) Relabel(label string, holds int64) ([]Edit, error) {
	if label == "" || len(label) >= maxVolume {
		return nil, fmt.Errorf("%q is no label of a filesystem: 1 to %d bytes", label, maxVolume-1)
	}
	if holds < f.Bytes {
		return nil, fmt.Errorf("%w: %d bytes in %d", ErrFormat, f.Bytes, holds)
	}
	b := make([]byte, sblockSize)
	if err := f.read(0, b, f.sblock); err != nil {
		return nil, err
	}
	clear(b[atVolume : atVolume+maxVolume])
	copy(b[atVolume:], label)
	binary.LittleEndian.PutUint64(b[atProvider:], uint64(holds/f.fsize))
	edits := []Edit{
		{f.sblock + atVolume, b[atVolume : atVolume+maxVolume]},
		{f.sblock + atProvider, b[atProvider : atProvider+8]},
	}
	if u32(b, atHashed)&ckSuperblock == 0 {
		return edits, nil
	}
	size := i32(b, atSize)
	if size <= atHashed || size > sblockSize {
		return nil, fmt.Errorf("%w: a superblock of %d bytes", ErrFormat, size)
	}
	binary.LittleEndian.PutUint32(b[atHash:], 0)
	binary.LittleEndian.PutUint32(b[atHash:], superHash(b[:size]))
	return append(edits, Edit{f.sblock + atHash, b[atHash : atHash+4]}), nil
}

// superHash returns FreeBSD's CRC-32C, which starts with all ones as usual, and does not invert the
// result.
func superHash(b []byte) uint32 { return ^crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
