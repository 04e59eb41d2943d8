package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"cfgd/internal/hostfile"
)

// State is what earlier reports told.
type State struct {
	Last  time.Time            `json:"last"`  // when the last report was made
	Well  time.Time            `json:"well"`  // when a report last told that all is well, or the first one
	Since map[string]time.Time `json:"since"` // by finding: when a report first told it
	Told  []string             `json:"told"`  // the findings of the last report, in all their details
	When  time.Time            `json:"when"`  // since when reports tell these
}

// ReadState reads what earlier reports told. If the file is damaged, it returns an error and an empty state.
func ReadState(file string) (*State, error) {
	s := &State{Since: map[string]time.Time{}}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, s); err != nil {
		return &State{Since: map[string]time.Time{}}, fmt.Errorf("%s: %w: begun anew", file, err)
	}
	if s.Since == nil {
		s.Since = map[string]time.Time{}
	}
	return s, nil
}

// Write writes the state to a file.
func (s *State) Write(file string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return hostfile.Write(file, append(b, '\n'), 0o600)
}

// week is after how long a report tells that all is well.
const week = 7 * 24 * time.Hour

// Report is what is told of the facts of one moment.
type Report struct {
	Findings []Finding // with their times
	Text     string
	After    *State // what the next report compares with
}

// Compose decides what is told. New findings are told in full. If nothing changed since the last report, the
// text is one line. If there are no findings, the text is empty, except for one line each week. If always is
// set, everything is told.
func (s *State) Compose(f *Facts, always bool) Report {
	all := f.Findings()
	after := s.after(f, all)
	r := Report{Findings: all, After: after}
	same := slices.Equal(s.Told, after.Told) && !s.Last.IsZero()
	if same {
		after.When = s.When
	}
	switch {
	case always:
		r.Text = Text(f, all, s.Last)
	case len(all) == 0 && !s.Well.IsZero() && f.Now.Sub(s.Well) >= week:
		after.Well = f.Now
		r.Text = fmt.Sprintf("cfgd on %s: all is well: %s\n", f.Host, counted(len(f.Targets), "target"))
	case len(all) == 0:
	case same:
		r.Text = fmt.Sprintf("cfgd on %s: unchanged since %s: %s; cfgd report --always lists them\n", f.Host,
			s.When.Local().Format("2006-01-02 15:04"), counted(len(all), "finding"))
	default:
		r.Text = Text(f, all, s.Last)
	}
	return r
}

// after returns the state after a report of these findings, and sets since when each is told.
func (s *State) after(f *Facts, all []Finding) *State {
	after := &State{Last: f.Now, Well: s.Well, Since: map[string]time.Time{}, When: f.Now}
	unsaved := map[string]time.Time{}
	for _, t := range f.Targets {
		unsaved[t.Name] = t.Since
	}
	for i := range all {
		x := &all[i]
		x.Since = f.Now
		if was, ok := s.Since[x.key()]; ok {
			x.Since = was
		} else if at := unsaved[x.Target]; x.Kind == "unsaved" && !at.IsZero() && at.Before(x.Since) {
			x.Since = at
		}
		after.Since[x.key()] = x.Since
		after.Told = append(after.Told, x.detail())
	}
	if s.Well.IsZero() {
		after.Well = f.Now
	}
	return after
}
