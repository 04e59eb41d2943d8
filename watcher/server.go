package watcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"cfgd/internal/pathname"
	"cfgd/overlay"
	"cfgd/overlay/store"
	"cfgd/watcher/control"
)

const (
	maxRequest = 1 << 20
	// answerWithin bounds a request that the targets' goroutines answer. scanWithin bounds a request for
	// which an older answer exists, so that one stuck target does not delay the answers of the others.
	answerWithin = 30 * time.Second
	scanWithin   = 5 * time.Second
)

type uidKey struct{}

// socketTemp is the directory and the name of the socket while it is made. It is shorter than the final
// name, because sun_path is short.
const socketTemp = ".s"

// listen makes the control socket, in place of one at which nobody listens. The caller holds the daemon's
// lock. The order: make the socket in a directory that nobody else may enter; set its mode; move it to
// its place. So the socket never has another mode in its place, and a client finds the old one or the new
// one.
func listen(dir string) (net.Listener, error) {
	inner := filepath.Join(dir, socketTemp)
	if err := os.RemoveAll(inner); err != nil { // left by a daemon that was killed
		return nil, err
	}
	if err := os.Mkdir(inner, 0o700); err != nil {
		return nil, err
	}
	defer os.RemoveAll(inner)
	short, release, err := control.ShortDir(inner)
	if err != nil {
		return nil, err
	}
	defer release()
	l, err := net.Listen("unix", filepath.Join(short, socketTemp))
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	sock := filepath.Join(inner, socketTemp)
	if err := errors.Join(os.Chmod(sock, 0o600),
		os.Rename(sock, filepath.Join(dir, control.SocketPath))); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return l, nil
}

// serve answers requests until ctx ends.
func (d *Daemon) serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", d.handleStatus)
	mux.Handle("GET /metrics", d.counts.handler())
	mux.HandleFunc("POST /v1/attach", d.handle(d.freshTarget(ctx), attach))
	mux.HandleFunc("POST /v1/detach", d.handle(d.target, detach))
	mux.HandleFunc("POST /v1/flush", d.handle(d.target, flush))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusNotFound, control.Reply{
			Error: fmt.Sprintf("no request %s %.100q; is the command of another version than the daemon?",
				r.Method, r.URL.Path),
			Code: "bad-request",
		})
	})
	srv := &http.Server{
		Handler: allowed(mux), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 2 * answerWithin, MaxHeaderBytes: 16 << 10,
		ErrorLog:    log.New(d.Log, "", 0),
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if uid, err := control.PeerUID(c.(*net.UnixConn)); err == nil {
				return context.WithValue(ctx, uidKey{}, uid)
			}
			return ctx
		},
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// allowed admits root and the daemon's own user. The mode of the socket does the same on systems that
// check it.
func allowed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		uid, ok := r.Context().Value(uidKey{}).(uint32)
		if !ok || uid != 0 && int(uid) != os.Geteuid() {
			answer(w, http.StatusForbidden, control.Reply{
				Error: "only root may talk to cfgd", Code: "forbidden",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, r control.Reply) {
	r.Version = 1
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(r) // an error means that the client has gone
}

func (d *Daemon) handleStatus(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), scanWithin)
	defer cancel()
	answer(w, http.StatusOK, control.Reply{Targets: d.statuses(ctx, r.URL.Query().Get("look") == "1",
		r.URL.Query()["target"])})
}

// freshTarget finds a target after reading the configuration again: a starting jail uses its current
// fstab, and may be new.
func (d *Daemon) freshTarget(ctx context.Context) func(name string) *target {
	return func(name string) *target {
		d.reload(ctx)
		return d.target(name)
	}
}

// action does what a request asks of a target, in the target's goroutine.
type action func(ctx context.Context, t *target, rq control.Request) (control.Reply, error)

// handle reads a request, finds its target and runs an action on it.
func (d *Daemon) handle(find func(name string) *target, do action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
		defer cancel()
		rq, err := readRequest(http.MaxBytesReader(w, r.Body, maxRequest))
		if err != nil {
			answer(w, http.StatusBadRequest, control.Reply{Error: err.Error(), Code: "bad-request"})
			return
		}
		t := find(rq.Target)
		if t == nil {
			answer(w, http.StatusNotFound, control.Reply{
				Error: fmt.Sprintf("no target %q; cfgd check lists them", rq.Target),
				Code:  "unknown-target",
			})
			return
		}
		status, reply := act(ctx, t, rq, do)
		answer(w, status, reply)
	}
}

// act runs do in the target's goroutine. do runs to its end, even if nobody waits for the answer.
func act(ctx context.Context, t *target, rq control.Request, do action) (int, control.Reply) {
	var reply control.Reply
	var err error
	run := func(ctx context.Context) {
		if !rq.Until.IsZero() && time.Now().After(rq.Until) {
			err = errors.New("nobody waits for this any more: not done")
			return
		}
		reply, err = do(ctx, t, rq)
	}
	if cerr := t.call(ctx, run); cerr != nil {
		return http.StatusServiceUnavailable, control.Reply{
			Error: fmt.Sprintf("%s: the daemon is busy with it: %v", rq.Target, cerr),
			Code:  "failed",
		}
	}
	if err != nil {
		reply.Error, reply.Code = err.Error(), codeOf(err)
		return http.StatusConflict, reply
	}
	return http.StatusOK, reply
}

func codeOf(err error) string {
	switch {
	case errors.Is(err, store.ErrHeld):
		return "held"
	case errors.Is(err, overlay.ErrEarlier):
		return "earlier"
	case errors.Is(err, overlay.ErrNotPopulated):
		return "not-populated"
	}
	return "failed"
}

// readRequest refuses a body that is not exactly one JSON object of the known keys.
func readRequest(body io.Reader) (control.Request, error) {
	var rq control.Request
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	err := dec.Decode(&rq)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return rq, fmt.Errorf("request: larger than %d bytes", large.Limit)
	case err != nil:
		return rq, fmt.Errorf("request: offset %d: %w", dec.InputOffset(), err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return rq, fmt.Errorf("request: offset %d: something follows the object", dec.InputOffset())
	}
	if rq.Target == "" {
		return rq, errors.New("request: no target")
	}
	return rq, nil
}

func attach(ctx context.Context, t *target, _ control.Request) (control.Reply, error) {
	t.attach(ctx)
	return control.Reply{Targets: []control.Status{t.Status()}}, nil
}

func detach(_ context.Context, t *target, _ control.Request) (control.Reply, error) {
	t.detach()
	return control.Reply{Targets: []control.Status{t.Status()}}, nil
}

func flush(ctx context.Context, t *target, rq control.Request) (control.Reply, error) {
	paths, err := cleaned(rq.Paths)
	if err != nil {
		return control.Reply{}, err
	}
	r, err := t.flush(ctx, overlay.SaveOptions{Paths: paths, Force: rq.Force, Message: rq.Message})
	if err != nil {
		return control.Reply{}, err
	}
	reply := control.Reply{
		Generation: r.Generation,
		Released:   control.Quoted(r.Released),
		Conflicts:  control.Quoted(r.Conflicts),
	}
	for _, c := range r.Visible() {
		reply.Saved = append(reply.Saved, c.Kind.Letter()+" "+pathname.Quote(c.Path))
	}
	return reply, nil
}

func cleaned(paths []string) ([]string, error) {
	var out []string
	for _, arg := range paths {
		p, err := pathname.Clean(arg)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}
