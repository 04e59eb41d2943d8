// Package control is the daemon's control socket: the requests and answers, the client, and what differs
// between systems. Package watcher serves the requests.
//
// The socket is /var/run/cfgd/cfgd.sock. It speaks HTTP, with one JSON object in each direction. Only
// root and the daemon's own user may connect. A client never waits longer than its context. Different
// errors report that no daemon runs, that the daemon does not know the target, and that it refused. A Saver
// decides whether the daemon saves a target and tells its status, or whether that is done without the daemon
// (saver.go, statuses.go); no other code makes that choice.
package control
