// Package nano knows the disk of a NanoBSD host: its table (table.go) and what boots it (loader.go), its two
// slices with systems (slice.go), which one boots next (boot.go, decide.go), and trials (trial.go,
// hosttrial.go). install.go writes a new image into the other slice: image.go opens it, check.go reads it
// before anything is written, fit.go puts this disk's names into its fstab and label, write.go writes it,
// and carry.go adds the machine's own files.
//
// What always holds:
//
//   - The running slice is never written to.
//   - A slice that was written holds the whole image and was read back, or it does not boot.
//   - Images, tables and loader.env are hostile: what they say is checked, and bounded in memory and time.
//
// The package runs commands through package run, and reads no configuration but what the slices have: their
// fstabs, loader.conf.local and boot.config.
package nano
