// Package tree describes a tree of files: its entries, the scan that finds them, the delta between two
// trees, and the copy of a tree.
//
// A Tree is a value. A scan that finds nothing changed returns the earlier Tree, so results computed from
// that Tree stay valid. An Entry holds everything that cfgd keeps of a file: kind, mode, owner, flags,
// digest of the content, extended attributes. What could not be read is named in the entry (Unread,
// Unlisted) and never guessed. A scan opens only regular files and directories, follows no link, and stays
// on the filesystem of its root.
//
// Saved lays cfg over base. Copy makes a tree in an empty directory, with everything that an Entry holds;
// tar.go has the same for tar(5). This package changes nothing outside the directory that its caller
// named or opened, and does not know what the tree is for.
package tree
