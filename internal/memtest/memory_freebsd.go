package memtest

// memory returns "": FreeBSD has no directory in memory that is always there.
func memory() string { return "" }
