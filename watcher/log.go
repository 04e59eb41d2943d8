package watcher

import (
	"errors"
	"strings"

	"github.com/rs/zerolog"

	"cfgd/internal/flock"
	"cfgd/overlay"
	"cfgd/overlay/store"
	"cfgd/watcher/control"
)

// logDedup is the log of a target. It records what it has logged, so that nothing is logged twice.
type logDedup struct {
	log         zerolog.Logger
	lastProblem string // the kind of the problem that was logged last, "" for none
	notices     map[string]string
}

// maxNotices bounds how many notices are remembered.
const maxNotices = 100

func (l *logDedup) logSaved(r *overlay.Result) {
	if len(r.Saved) > 0 || len(r.Released) > 0 {
		l.log.Info().Int("generation", r.Generation).Int("paths", len(r.Saved)).
			Int("released", len(r.Released)).Msg("saved")
	}
}

// logLeft names what the last save left out.
func (l *logDedup) logLeft(r *overlay.Result) {
	if len(r.Unsettled) > 0 {
		l.log.Warn().Msg("just emptied, or changed while it was copied; what was saved before stays: " +
			strings.Join(control.Quoted(r.Unsettled), ", "))
	}
}

// logOnce logs a warning about a subject, unless the last warning about it was the same.
func (l *logDedup) logOnce(subject, words string) {
	if l.notices == nil || len(l.notices) > maxNotices {
		l.notices = map[string]string{}
	}
	if l.notices[subject] != words {
		l.log.Warn().Msg(words)
	}
	l.notices[subject] = words
}

// logProblem logs a problem when it begins, when it changes, and when it ends.
func (l *logDedup) logProblem(kind string, s control.Status) {
	if kind == l.lastProblem {
		return
	}
	was := l.lastProblem
	l.lastProblem = kind
	switch {
	case s.Down: // a stopped jail is no problem
		l.log.Info().Msg(s.Problem)
	case kind != "":
		l.log.Warn().Msg(s.Problem)
	case was != "":
		l.log.Info().Msg("all is well again")
	}
}

// kinds are the errors whose text changes from try to try, for example by the missing space.
var kinds = []error{
	overlay.ErrEarlier, overlay.ErrNotPopulated, store.ErrHeld, overlay.ErrReadOnly, store.ErrNoSpace,
	flock.ErrHeld,
}

// kind returns what identifies a problem, "" for none.
func kind(err error) string {
	if err == nil {
		return ""
	}
	for _, k := range kinds {
		if errors.Is(err, k) {
			return k.Error()
		}
	}
	return err.Error()
}
