package run

// Has reports whether a command's program is installed where the system's own programs are.
func Has(name string) bool {
	_, err := lookup(name)
	return err == nil
}
