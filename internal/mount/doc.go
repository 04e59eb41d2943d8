// Package mount knows the system's mounts, and makes those of cfgd's own: the memory filesystem of a live
// tree (memdisk.go), and /cfg while it is needed (ondemand.go). table.go reads the table of mounts.
//
// Commands are plans: values that --dry-run prints, tests compare and package run runs. A mount that
// somebody else made is never unmounted. The last user of a /cfg that cfgd mounted unmounts it, whichever
// process mounted it; if it is busy then, the next user does.
package mount
