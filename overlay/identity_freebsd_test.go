package overlay

import "testing"

// A live tree stays populated when this program replaces an older one, whose records have the birth time at
// their end.
func TestRecordOfOlderProgram(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.populate()
	r, err := b.o.Record()
	b.must(err)
	r.Identity += "/1764296193.123456"
	b.must(b.o.WriteRecord(r))
	if s, err := b.o.State(); err != nil || !s.Populated {
		t.Errorf("%+v, %v", s, err)
	}
	b.edit("rc.conf", "hostname=\"changed\"\n")
	if r := b.save(); r.Generation != 1 {
		t.Errorf("saved as generation %d", r.Generation)
	}
}
