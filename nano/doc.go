// Package nano knows the disk of a NanoBSD host: its two slices with systems (disk.go), new images
// (install.go), which slice boots next (boot.go), and trials (trial.go).
//
// What always holds:
//
//   - The running slice is never written to.
//   - A slice that was written holds the whole image and was read back, or it does not boot.
//   - Images, tables and loader.env are hostile: what they say is checked, and bounded in memory and time.
//
// The package runs commands through package run, and reads no configuration file but fstabs inside images.
package nano
