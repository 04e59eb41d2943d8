// Package report decides what needs an administrator's attention in the morning.
//
// It collects the facts of each target (facts.go), turns facts into findings (findings.go), and remembers
// what it told before (state.go). Facts, findings and texts are values. The caller asks the daemon and the
// disk, and gives the time. The text goes to the caller, by sendmail(8) to an address (mail.go), or as
// metrics into a file (textfile.go). What always holds: a report changes no target. It has no content of any
// file, so it has no secret. A finding names the command that settles it. The same finding is not told in
// full twice.
package report
