package control

import "time"

// SocketPath is the control socket, below /var/run/cfgd.
const SocketPath = "cfgd.sock"

// Request is the body of every POST to the control socket.
type Request struct {
	Target string `json:"target"`
	// as on the command line: quoted as C does where they are not plain
	Paths   []string `json:"paths,omitempty"`
	Force   bool     `json:"force,omitempty"`
	Message string   `json:"message,omitempty"`
	// Until is when the asker stops waiting; a request that is come to later is refused: a daemon that
	// stood still over a stop and the next start of a jail must not detach the jail that runs by then.
	Until time.Time `json:"until,omitzero"`
}

// Reply is the body of every answer: an error in words, or what was asked for.
type Reply struct {
	Version    int      `json:"version"`
	Error      string   `json:"error,omitempty"`
	Code       string   `json:"code,omitempty"` // unknown-target, held, not-populated, bad-request, failed
	Targets    []Status `json:"targets,omitempty"`
	Generation int      `json:"generation,omitempty"`
	Saved      []string `json:"saved,omitempty"` // a letter, a blank and a path, quoted; so are the others
	Released   []string `json:"released,omitempty"`
	Conflicts  []string `json:"conflicts,omitempty"`
}
