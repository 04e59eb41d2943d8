package watcher

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"cfgd/config"
	"cfgd/overlay"
	"cfgd/watcher/control"
)

// stranger is a machine with one jail whose live tree may be another filesystem than the one that was
// populated, as after an unmount.
type stranger struct {
	*bubble
	lost  bool   // the record names another filesystem
	saved string // cfg's rc.conf when it was lost
	n     int
}

func (s *stranger) overlay() *overlay.Overlay { return overlay.New(s.model, s.model.Targets[0]) }

// lose makes the record name another filesystem than live's, and find live's again.
func (s *stranger) lose() { s.name(true) }
func (s *stranger) find() { s.name(false) }

func (s *stranger) name(lost bool) {
	o := s.overlay()
	r, err := o.Record()
	s.must(err)
	if r == nil { // forgotten, and not taken over since
		_, err := o.AdoptLive(s.ctx)
		s.must(err)
		r, err = o.Record()
		s.must(err)
	}
	r.Identity = strings.TrimSuffix(r.Identity, "?")
	if lost {
		r.Identity += "?"
	}
	s.must(o.WriteRecord(r))
	s.lost, s.saved = lost, s.read("j0/cfg/rc.conf")
}

// forget drops the record: the tree may be taken over.
func (s *stranger) forget() { s.must(s.overlay().DropRecord()); s.lost = false }

func (s *stranger) edit() {
	s.n++
	s.write("j0/etc/rc.conf", fmt.Sprint(s.n))
	s.mu.Lock()
	f := s.sources["j0"]
	s.mu.Unlock()
	if f != nil && !f.closed {
		f.lost()
	}
}

func (s *stranger) ask(do action, rq control.Request) {
	rq.Target = "j0"
	act(s.ctx, s.d.target("j0"), rq, do)
}

// reload starts the target anew, with other settings.
func (s *stranger) reload() {
	tg := *s.model.Targets[0]
	tg.Rescan += sec
	m := *s.model
	m.Targets = []*config.Target{&tg}
	s.model = &m
	s.apply()
}

var strangerOps = []struct {
	name string
	do   func(*stranger)
}{
	{"lose", (*stranger).lose},
	{"find", (*stranger).find},
	{"forget", (*stranger).forget},
	{"edit", (*stranger).edit},
	{"attach", func(s *stranger) { s.ask(attach, control.Request{}) }},
	{"detach", func(s *stranger) { s.ask(detach, control.Request{}) }},
	{"flush", func(s *stranger) { s.ask(flush, control.Request{}) }},
	{
		"flush of a path", func(s *stranger) {
			s.ask(flush, control.Request{Paths: []string{"hosts"}, Force: true})
		},
	},
	{"status", func(s *stranger) { s.d.statuses(s.ctx, true, nil) }},
	{"reload", (*stranger).reload},
	{"metrics", func(s *stranger) {
		if _, err := s.d.counts.registry.Gather(); err != nil {
			s.Error(err)
		}
		s.d.info()
	}},
	{"time", func(s *stranger) { s.pass(lastPause + sec) }},
}

// check sees that nothing of a stranger's tree was saved, and that status says so.
func (s *stranger) check(after string) {
	s.Helper()
	st := s.status("j0")
	if !s.lost {
		return
	}
	if got := s.read("j0/cfg/rc.conf"); got != s.saved {
		s.Errorf("%s: saved from another filesystem: %q", after, got)
	}
	if !st.Down && after == "time" {
		s.Errorf("%s: %+v", after, st)
	}
}

// If a live tree turns out to be another filesystem, before the daemon starts or later, and whatever is
// asked of the daemon meanwhile: nothing of it is saved, the daemon keeps running, and everything is
// saved once the populated tree is back.
func TestAnotherFilesystemThanThePopulated(t *testing.T) {
	t.Parallel()
	var orders [][]int
	for i := range strangerOps {
		for j := range strangerOps {
			orders = append(orders, []int{i, j})
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 60 {
		orders = append(orders, make([]int, 10))
		for i := range 10 {
			orders[len(orders)-1][i] = rng.IntN(len(strangerOps))
		}
	}
	for n, order := range orders {
		lost := n%2 == 0
		for range 2 {
			lost = !lost
			s := &stranger{}
			before := func(b *bubble) {
				s.bubble = b
				if lost {
					s.lose()
				}
			}
			inBubbleAfter(t, 1, before, func(*bubble) {
				var names []string
				for _, i := range order {
					names = append(names, strangerOps[i].name)
					strangerOps[i].do(s)
					s.check(strangerOps[i].name)
				}
				s.find()
				s.ask(attach, control.Request{})
				s.edit()
				s.pass(lastPause + sec)
				st, got := s.status("j0"), s.read("j0/cfg/rc.conf")
				if got != fmt.Sprint(s.n) || st.Problem != "" || !st.Populated {
					t.Errorf("lost at the start %v, then %q: %q, %+v", lost, names, got, st)
				}
			})
			if len(order) > 2 {
				break // one start of either kind is enough
			}
		}
	}
}
