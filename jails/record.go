package jails

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"cfgd/internal/hostfile"
)

func (k *Creator) record(name string) string {
	return filepath.Join(k.Model.Path("/var/db/cfgd/jails"), name+".json")
}

// note writes the record of what is being made or undone.
func (k *Creator) note(c *Creation) error {
	b, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return err
	}
	return hostfile.Write(k.record(c.Jail), append(b, '\n'), 0o600)
}

// Created reads what was made for a jail.
func (k *Creator) Created(name string) (*Creation, error) {
	b, err := hostfile.ReadFile(k.record(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf(
			"%s was not made by cfgd jail create or clone: it is not undone by cfgd either", name,
		)
	}
	if err != nil {
		return nil, err
	}
	var c Creation
	if err := json.Unmarshal(b, &c); err != nil || c.Jail != name {
		return nil, fmt.Errorf("%s: not the record of jail %s (%v)", k.record(name), name, err)
	}
	return &c, nil
}
