package main

import (
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"
	"github.com/urfave/cli/v2"

	"cfgd/config"
	"cfgd/internal/pathname"
	"cfgd/overlay"
)

// session is the run of one command line: where it reads and writes, the flags of all commands, and the
// machine that the command works on.
type session struct {
	in       io.Reader
	out, err io.Writer
	args     []string // as typed, but for the name of a script (legacy.go)

	root, config string
	json         bool
	level        zerolog.Level
	badArgs      error // what is wrong with args

	loaded *machine
}

// action makes a command of a function.
func (s *session) action(run func(*session, *cli.Context) error) cli.ActionFunc {
	return func(c *cli.Context) error { return run(s, c) }
}

// machine loads the configuration once.
func (s *session) machine() (*machine, error) {
	if s.loaded != nil {
		return s.loaded, nil
	}
	m, err := s.load()
	if err != nil {
		return nil, err
	}
	s.loaded = newMachine(m, s.load)
	return s.loaded, nil
}

// reload loads the configuration again, because another process or this one may have changed it.
func (s *session) reload() (*machine, error) {
	s.loaded = nil
	return s.machine()
}

func (s *session) load() (*config.Model, error) {
	return config.Load(config.Options{Root: s.root, File: s.config, Euid: -1})
}

// overlay loads the configuration and returns the trees of one target.
func (s *session) overlay(target string) (*overlay.Overlay, error) {
	m, err := s.machine()
	if err != nil {
		return nil, err
	}
	t, err := m.find(target)
	if err != nil {
		return nil, err
	}
	return m.overlay(t), nil
}

// logger logs to standard error, for people.
func (s *session) logger() zerolog.Logger {
	// errors may contain any name of a file
	text := func(v any) string { return pathname.Plain(fmt.Sprint(v)) }
	w := zerolog.ConsoleWriter{
		Out: s.err, NoColor: true, TimeFormat: time.RFC3339, FormatMessage: text, FormatFieldValue: text,
		FormatErrFieldValue: text,
	}
	return zerolog.New(w).Level(s.level).With().Timestamp().Logger()
}
