package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"
)

// contestant is one way to do a piece of work.
type contestant struct {
	name  string
	tools []string     // programs that it needs
	ready func() error // before each round, not timed; may be nil
	run   func() error
	took  []time.Duration
}

// missing returns the first program that is not installed, "" if all are.
func (c *contestant) missing() string {
	for _, tool := range c.tools {
		if _, err := exec.LookPath(tool); err != nil {
			return tool
		}
	}
	return ""
}

// median returns the median of the times.
func (c *contestant) median() time.Duration { return quantile(c.took, 0.5) }

// race lets all contestants do their work in turn, first once without timing, and then for some rounds. Each
// round begins with another contestant.
func race(ctx context.Context, rounds int, all ...*contestant) error {
	for n := -1; n < rounds; n++ {
		for i := range all {
			c := all[(i+n+1)%len(all)]
			if c.missing() != "" {
				continue
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			took, err := c.once()
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if n >= 0 {
				c.took = append(c.took, took)
			}
		}
	}
	return nil
}

func (c *contestant) once() (time.Duration, error) {
	if c.ready != nil {
		if err := c.ready(); err != nil {
			return 0, err
		}
	}
	start := time.Now()
	err := c.run()
	return time.Since(start), err
}

// against returns a row that compares cfgd with a peer.
func against(name string, ours, peer *contestant, limit float64) row {
	if tool := peer.missing(); tool != "" {
		return skipped(name, ours.median(), tool)
	}
	return versus(name, ours.median(), peer.name, peer.median(), limit)
}

// quantile returns a quantile of times: 0 is the shortest, 1 the longest.
func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(times))
	return s[int(q*float64(len(s)-1)+0.5)]
}

// program returns a contestant that runs a program of the system.
func program(ctx context.Context, name string, args ...string) *contestant {
	return &contestant{name: name, tools: args[:1], run: func() error { return command(ctx, args...) }}
}

func command(ctx context.Context, args ...string) error {
	c := exec.CommandContext(ctx, args[0], args[1:]...)
	c.Stderr = os.Stderr
	return c.Run()
}
