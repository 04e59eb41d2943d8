// Package watcher is the autosave daemon: event sources, a loop for every target, and the control socket.
//
// What always holds: one goroutine owns a target, its overlay and its event source. A fault of one target
// never stops another target, the answers about it, or the end of the daemon. An event only marks a path
// dirty; a scan decides what changed. If events are lost, a save waits for the next scan and nothing is
// lost. A pure scheduler decides when to scan and which changes have settled. Between scans no descriptor
// below a live tree or a cfg is open except those of the event source, and detach answers only when these
// are closed. A target that fails is tried again after pauses that grow.
//
// It never mounts, never runs a jail, and reads no configuration file itself.
package watcher
