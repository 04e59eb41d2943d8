// Package mount reads the system's table of mounts (table.go), and makes and removes the mounts that cfgd
// needs: the memory filesystem of a live tree (memdisk.go), and /cfg while it is needed (ondemand.go).
//
// Commands are plans: values that --dry-run prints, tests compare and package run runs. A mount that
// somebody else made is never unmounted. The last user of a /cfg that cfgd mounted unmounts it, whichever
// process mounted it; if it is busy then, the next user does.
package mount
