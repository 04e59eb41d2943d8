// Package control is the daemon's control socket as a client sees it: the requests and answers, and a Client.
//
// The socket is /var/run/cfgd/cfgd.sock, HTTP with one JSON object each way. Only root and the daemon's
// own user may talk to it. A client never waits longer than its context, and an error tells apart that no
// daemon runs, that it does not know the target, and that it refused.
package control
