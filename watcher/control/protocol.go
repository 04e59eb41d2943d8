package control

import "time"

// SocketPath is the control socket, below /var/run/cfgd.
const SocketPath = "cfgd.sock"

// Request is the body of every POST to the control socket.
type Request struct {
	Target string `json:"target"`
	// as on the command line: quoted as in C if they are not plain
	Paths   []string `json:"paths,omitempty"`
	Force   bool     `json:"force,omitempty"`
	Message string   `json:"message,omitempty"`
	// Until is when the client stops waiting. The daemon refuses a request after that time: a daemon that
	// was suspended during a stop and the next start of a jail must not detach the jail that runs then.
	Until time.Time `json:"until,omitzero"`
}

// Reply is the body of every answer: an error, or the result.
type Reply struct {
	Version    int      `json:"version"`
	Error      string   `json:"error,omitempty"`
	Code       string   `json:"code,omitempty"` // unknown-target, held, not-populated, bad-request, failed
	Targets    []Status `json:"targets,omitempty"`
	Generation int      `json:"generation,omitempty"`
	// each a letter, a space and a quoted path; the paths below are quoted too
	Saved     []string `json:"saved,omitempty"`
	Released  []string `json:"released,omitempty"`
	Conflicts []string `json:"conflicts,omitempty"`
}
