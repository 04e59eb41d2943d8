package tree

import (
	"fmt"
	"path"

	"cfgd/internal/dirfd"
	"cfgd/internal/pathname"
)

// trail keeps the directories above the last one that was made open, because the next one is mostly near.
type trail struct {
	root *dirfd.Dir
	open []*dirfd.Dir
}

// mkdir makes a directory and leaves it open.
func (t *trail) mkdir(name string) error {
	for len(t.open) > 0 && !pathname.Within(name, t.last().Path()) {
		t.last().Close()
		t.open = t.open[:len(t.open)-1]
	}
	d := t.last()
	if d.Path() != pathname.Parent(name) {
		return fmt.Errorf("%s: its directory is not in the saved tree", pathname.Quote(name))
	}
	if err := d.Mkdir(path.Base(name)); err != nil {
		return err
	}
	sub, err := d.Dir(path.Base(name))
	if err != nil {
		return err
	}
	t.open = append(t.open, sub)
	return nil
}

func (t *trail) last() *dirfd.Dir {
	if len(t.open) == 0 {
		return t.root
	}
	return t.open[len(t.open)-1]
}

func (t *trail) close() {
	for _, d := range t.open {
		d.Close()
	}
}
