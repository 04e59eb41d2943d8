package jails

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"cfgd/config"
)

// threeJails is a yard with vhost1, vhost2 and vhost3, of which vhost1 can't be switched.
func threeJails(t *testing.T) *yard {
	y := newYard(t)
	rc := "jail_enable=YES\njail_list=\"vhost1 vhost2 vhost3\"\n"
	for _, n := range []string{"vhost1", "vhost2", "vhost3"} {
		y.Write("jail/"+n+"/cfg/own", "own\n")
		y.Write("etc/fstab."+n, strings.ReplaceAll(fstabOn("1"), "vhost1", n))
		rc += strings.ReplaceAll("jail_vhost1_rootdir=/jail/vhost1\njail_vhost1_hostname=v\n"+
			"jail_vhost1_fstab=/etc/fstab.vhost1\n", "vhost1", n)
	}
	y.Write("etc/rc.conf", rc)
	y.fail["save fstab.vhost1"] = errors.New("cfg is full")
	return y
}

// After a failure no other jail is switched, unless the command goes on. After an interruption none is.
func TestRollout(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancel(t.Context())
	end()
	for name, c := range map[string]struct {
		ctx        context.Context
		how        Rollout
		done       []string
		notStarted int
	}{
		"stops":       {t.Context(), Rollout{Parallel: 1}, nil, 2},
		"goes on":     {t.Context(), Rollout{Parallel: 1, KeepGoing: true}, []string{"vhost2", "vhost3"}, 0},
		"interrupted": {ended, Rollout{Parallel: 2, KeepGoing: true}, nil, 3},
	} {
		y := threeJails(t)
		s := y.switcher()
		targets := slices.DeleteFunc(slices.Clone(s.Model.Targets), (*config.Target).Host)
		plans, err := s.PlanAll(t.Context(), targets, "2", false, true)
		if err != nil || len(plans) != 3 {
			t.Fatalf("%s: %d plans, %v", name, len(plans), err)
		}
		var done []string
		c.how.Done = func(w *Switch) error { done = append(done, w.Target.Name); return nil }
		notStarted := 0
		errs := s.DoAll(c.ctx, plans, c.how)
		for _, err := range errs {
			if errors.Is(err, ErrNotStarted) {
				notStarted++
			}
		}
		if !slices.Equal(done, c.done) || notStarted != c.notStarted || errs[0] == nil {
			t.Errorf("%s: %q done, %v", name, done, errs)
		}
		s = y.switcher()
		left, err := s.PlanAll(t.Context(), targets, "2", false, true)
		if err != nil || len(left) != 3-len(c.done) {
			t.Errorf("%s: %d are left, %v", name, len(left), err)
		}
	}
}
