package overlay

import (
	"errors"
	"testing"
)

// A record that an older program wrote on FreeBSD is read in its present form.
func TestRecordOfOlderForm(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.must(
		b.o.WriteRecord(
			&Record{Identity: "-5c3f1a2b.7d001122/2.1234567/1764296193.123456", State: Populated}),
	)
	if r, err := b.o.Record(); err != nil || r.Identity != "a3c0e5d5.7d001122/2.1234567" ||
		r.State != Populated {
		t.Errorf("%+v, %v", r, err)
	}
}

// An older program's record for an ordinary user of FreeBSD does not say which live tree it is of. That tree
// is not lost: it is taken over, with its unsaved changes.
func TestRecordOfNoDevice(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	b.edit("rc.conf", "one\n")
	b.save()
	b.edit("hosts", "unsaved\n")
	r, err := b.o.Record()
	b.must(err)
	r.Identity = "0.0/2.0/1764296193.5"
	b.must(b.o.WriteRecord(r))
	if _, err := b.o.Save(t.Context(), SaveOptions{}); !errors.Is(err, ErrNotPopulated) {
		t.Errorf("a save: %v", err)
	}
	taken, err := b.o.AdoptLive(t.Context())
	b.must(err)
	if taken.Already || len(taken.Changes) > 0 {
		t.Errorf("%+v", taken)
	}
	if s := b.save(); len(s.Saved) != 1 || s.Saved[0].Path != "hosts" ||
		b.read("jail/cfg/hosts") != "unsaved\n" {
		t.Errorf("saved %s", paths(s.Saved))
	}
}
