package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// childWord as the first argument makes the program do one piece of cfgd's work, as a process of its own.
const childWord = "child"

// children are the pieces of work, by name. Each gets the places of a target and a number. Its result goes to
// the parent as JSON.
var children = map[string]func(context.Context, places, int) (any, error){
	"scan":     childScan,
	"populate": childPopulate,
	"crowd":    childCrowd,
	"many":     childMany,
}

// runChild does the work that the arguments describe: its name, the places as JSON, and a number as JSON.
func runChild(args []string) error {
	work := children[args[0]]
	if work == nil || len(args) != 3 {
		return fmt.Errorf("%s %q: no such work", childWord, args)
	}
	var p places
	var n int
	if err := json.Unmarshal([]byte(args[1]), &p); err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(args[2]), &n); err != nil {
		return err
	}
	out, err := work(context.Background(), p, n)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// child does a piece of work in a process of its own, and reads the result into out if that is not nil.
func child(ctx context.Context, work string, p places, n int, out any) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	where, err := json.Marshal(p)
	if err != nil {
		return err
	}
	c := exec.CommandContext(ctx, self, childWord, work, string(where), fmt.Sprint(n))
	c.Stderr = os.Stderr
	b, err := c.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", work, err)
	}
	if out != nil {
		err = json.Unmarshal(b, out)
	}
	return err
}
