package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"path/filepath"

	"golang.org/x/sys/unix"

	"cfgd/overlay"
	"cfgd/overlay/store"
)

// ErrNoDaemon reports that no daemon listens at the control socket.
var ErrNoDaemon = errors.New("no daemon is running")

// ErrUnknownTarget reports that the daemon does not know the target, because its configuration is older.
var ErrUnknownTarget = errors.New("the daemon does not know the target")

// Client talks to the daemon of one machine.
type Client struct {
	HTTP *http.Client
}

// NewClient returns a client of the daemon whose files are in runDir, /var/run/cfgd.
func NewClient(runDir string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		short, release, err := ShortDir(runDir)
		if err != nil {
			return nil, err
		}
		defer release()
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(short, SocketPath))
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status returns the state of the targets, of all if none is named. With scan the daemon scans them
// first.
func (c *Client) Status(ctx context.Context, scan bool, targets ...string) ([]Status, error) {
	q := url.Values{"target": targets}
	if scan {
		q.Set("look", "1")
	}
	r, err := c.do(ctx, http.MethodGet, "/v1/status?"+q.Encode(), nil)
	return r.Targets, err
}

// Attach tells the daemon that a target's live tree is in place.
func (c *Client) Attach(ctx context.Context, target string) error {
	_, err := c.do(ctx, http.MethodPost, "/v1/attach", &Request{Target: target})
	return err
}

// Detach makes the daemon release a target. When it returns, the daemon has no descriptor open below live
// or cfg, so umount(8) succeeds.
func (c *Client) Detach(ctx context.Context, target string) error {
	_, err := c.do(ctx, http.MethodPost, "/v1/detach", &Request{Target: target})
	return err
}

// Flush makes the daemon save now.
func (c *Client) Flush(ctx context.Context, rq Request) (Reply, error) {
	return c.do(ctx, http.MethodPost, "/v1/flush", &rq)
}

func (c *Client) do(ctx context.Context, method, path string, body *Request) (Reply, error) {
	var in io.Reader
	if body != nil {
		if until, ok := ctx.Deadline(); ok {
			body.Until = until
		}
		b, err := json.Marshal(body)
		if err != nil {
			return Reply{}, err
		}
		in = bytes.NewReader(b)
	}
	rq, err := http.NewRequestWithContext(ctx, method, "http://cfgd"+path, in)
	if err != nil {
		return Reply{}, err
	}
	resp, err := c.HTTP.Do(rq)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ECONNREFUSED) {
			return Reply{}, ErrNoDaemon
		}
		if errors.Is(err, fs.ErrPermission) {
			return Reply{}, fmt.Errorf("daemon: only root may talk to it: %w", err)
		}
		return Reply{}, fmt.Errorf("daemon: %w", err)
	}
	defer resp.Body.Close()
	var r Reply
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(&r); err != nil {
		return r, fmt.Errorf("daemon: answer: %w", err)
	}
	return r, r.err()
}

func (r Reply) err() error {
	switch {
	case r.Error == "":
		return nil
	case r.Code == "unknown-target":
		return fmt.Errorf("%w: %s", ErrUnknownTarget, r.Error)
	case r.Code == "held":
		return &remoteError{r.Error, store.ErrHeld}
	case r.Code == "earlier":
		return &remoteError{r.Error, overlay.ErrEarlier}
	case r.Code == "not-populated":
		return &remoteError{r.Error, overlay.ErrNotPopulated}
	}
	return errors.New(r.Error)
}

// remoteError is an error that the daemon returned: its text and its kind.
type remoteError struct {
	words string
	kind  error
}

func (e *remoteError) Error() string { return e.words }
func (e *remoteError) Unwrap() error { return e.kind }
