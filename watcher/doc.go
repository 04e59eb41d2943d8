// Package watcher is the autosave daemon: event sources, a loop for every target, and the control socket.
//
// What always holds: one goroutine owns a target, its overlay and its source; what happens to one target
// never stops another, nor the answers about it, nor the end of the daemon. An event only marks a path
// dirty, a scan decides: events that are lost delay a save until the next scan and lose nothing. When to
// look and what is still is decided by a pure agenda. Between looks no descriptor below a live tree or a
// cfg is open but those of the event source, and detach answers when these are closed too. A target that
// fails is tried again with growing pauses.
//
// It never mounts, never runs a jail, and reads no configuration file itself.
package watcher
