package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
)

// childWord as the first argument makes the program do one work of ours, as a process of its own.
const childWord = "child"

// children are the works, with the places of a target and what else they need; what they return goes to the
// parent as JSON.
var children = map[string]func(context.Context, places, int) (any, error){
	"look":     childLook,
	"populate": childPopulate,
	"crowd":    childCrowd,
	"many":     childMany,
}

// runChild does the work that the arguments name: word, places as JSON, a number as JSON.
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

// child runs a work in a process of its own and reads its result into out, if not nil.
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
