package overlay

import "testing"

// A record that an older program wrote on FreeBSD is read in the form of today.
func TestRecordOfOlderForm(t *testing.T) {
	t.Parallel()
	b := newBox(t, etc)
	b.must(b.o.WriteRecord(&Record{Identity: "-5c3f1a2b.7d001122/2.1234567/1764296193.123456", State: Populated}))
	if r, err := b.o.Record(); err != nil || r.Identity != "a3c0e5d5.7d001122/2.1234567" || r.State != Populated {
		t.Errorf("%+v, %v", r, err)
	}
}
