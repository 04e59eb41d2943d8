// Package tree is what a tree of files is: its entries, the scan that finds them, the delta between two trees, and the
// copy of a file's contents.
//
// A Tree is a value: a scan that finds everything as before returns the same Tree, and what was computed from it holds.
// An Entry has everything that cfgd keeps of a file: kind, mode, owner, flags, contents by digest, extended
// attributes. What could not be read is named in the entry (Unread, Unlisted) and never guessed. A scan opens nothing
// but regular files and directories, follows no link, and does not leave the filesystem of its root.
//
// This package reads trees. It knows nothing of base, cfg and live, and writes nothing but the contents of a file that
// a caller opened.
package tree
