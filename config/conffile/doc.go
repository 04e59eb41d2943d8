// Package conffile has the types that the readers of all configuration files share: where a value was
// written (Origin), why a file cannot be used (Error), what a machine's set-up lacks (Problem), the change
// of one line (Edit), and the files themselves below the directory of --root (Files).
//
// What always holds: names of files are as in the configuration, without the directory of --root. Links are
// resolved as after chroot(2), and never lead out of that directory. The package writes nothing.
package conffile
