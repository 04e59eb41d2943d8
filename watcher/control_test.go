package watcher

import (
	"bytes"
	"cfgd/watcher/control"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
)

func TestBadRequests(t *testing.T) {
	t.Parallel()
	m := newMachine(t, 1)
	m.run()
	c := m.client().HTTP
	for name, r := range map[string]struct {
		method, path, body string
		status             int
		words              string
	}{
		"no JSON":     {"POST", "/v1/flush", "flush j0", 400, "offset"},
		"nothing":     {"POST", "/v1/flush", "", 400, "EOF"},
		"cut off":     {"POST", "/v1/flush", `{"target":"j0`, 400, "EOF"},
		"no target":   {"POST", "/v1/detach", `{}`, 400, "no target"},
		"null":        {"POST", "/v1/detach", `null`, 400, "no target"},
		"unknown key": {"POST", "/v1/flush", `{"target":"j0","fource":true}`, 400, "fource"},
		"wrong type":  {"POST", "/v1/flush", `{"target":["j0"]}`, 400, "target"},
		"two objects": {"POST", "/v1/flush", `{"target":"j0"}{"target":"j0"}`, 400, "follows"},
		"too large": {
			"POST", "/v1/flush", `{"target":"` + strings.Repeat("x", maxRequest) + `"}`, 400,
			"larger than 1048576 bytes",
		},
		"unknown target": {"POST", "/v1/flush", `{"target":"j1"}`, 404, "j1"},
		"path outside":   {"POST", "/v1/flush", `{"target":"j0","paths":["../cfg"]}`, 409, ".."},
		"wrong method":   {"GET", "/v1/flush", "", 404, "GET"},
		"wrong path":     {"POST", "/v9/flush", `{"target":"j0"}`, 404, "/v9/flush"},
	} {
		t.Run(name, func(t *testing.T) {
			rq, err := http.NewRequest(r.method, "http://cfgd"+r.path, strings.NewReader(r.body))
			m.must(err)
			resp, err := c.Do(rq)
			m.must(err)
			defer resp.Body.Close()
			var reply control.Reply
			b, _ := io.ReadAll(resp.Body)
			if err := json.Unmarshal(b, &reply); err != nil {
				t.Fatalf("%q: %v", b, err)
			}
			if resp.StatusCode != r.status || !strings.Contains(reply.Error, r.words) || reply.Code == "" ||
				reply.Version != 1 {
				t.Errorf("%d %+v", resp.StatusCode, reply)
			}
		})
	}
}

// Only root and the daemon's own user are let in, whatever the socket's mode.
func TestOthersAreKeptOut(t *testing.T) {
	t.Parallel()
	for uid, want := range map[any]int{
		uint32(0):            200,
		uint32(os.Geteuid()): 200,
		uint32(12345):        403,
		nil:                  403,
	} {
		ctx := context.Background()
		if uid != nil {
			ctx = context.WithValue(ctx, uidKey{}, uid)
		}
		w := httptest.NewRecorder()
		allowed(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).
			ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/v1/status", nil))
		if w.Code != want {
			t.Errorf("user %v: %d, want %d", uid, w.Code, want)
		}
	}
}

// Every body is refused with a reason or understood, and an understood one can be encoded and read again.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"target":"vhost1","paths":["rc.conf","\"gr\\374n\""],"force":true,"message":"why"}`))
	f.Add([]byte(`{"target":"a"} {}`))
	f.Add([]byte(`{"Target":"a","target":"b"}`))
	f.Add([]byte(`[{"target":"a"}]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		rq, err := readRequest(bytes.NewReader(b))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "request: ") {
				t.Errorf("%q: %v", b, err)
			}
			return
		}
		if rq.Target == "" {
			t.Fatalf("%q: no target", b)
		}
		if paths, err := cleaned(rq.Paths); err == nil {
			for _, p := range paths {
				if strings.HasPrefix(p, "/") || strings.HasPrefix(p, "../") || p == ".." {
					t.Errorf("%q: path %q", b, p)
				}
			}
		}
		again, err := json.Marshal(rq)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readRequest(bytes.NewReader(again)); err != nil {
			t.Errorf("%q, written again as %q: %v", b, again, err)
		}
	})
}
