package watcher

import (
	"cfgd/watcher/control"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"
)

// A detach request is refused after its client stopped waiting: the jail may run again by then.
func TestLateRequestIsNotDone(t *testing.T) {
	t.Parallel()
	tg := &target{calls: make(chan func(context.Context)), ended: make(chan struct{})}
	go func() { (<-tg.calls)(t.Context()) }()
	do := func(context.Context, *target, control.Request) (control.Reply, error) {
		t.Error("done")
		return control.Reply{}, nil
	}
	status, reply := act(t.Context(), tg, control.Request{
		Target: "vhost1", Until: time.Now().Add(-time.Second),
	}, do)
	if status != http.StatusConflict || !strings.Contains(reply.Error, "not done") {
		t.Errorf("%d %+v", status, reply)
	}
}
