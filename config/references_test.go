package config

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"cfgd/config/conffile"
)

const paperFstab = `# vhost1, as in section 3.6
/jail/proto/.zfs/snapshot/1 /jail/vhost1 nullfs ro 0 0
/jail/proto/etc/.zfs/snapshot/1	/jail/vhost1/conf/base/etc   nullfs  ro 0 0   # base
zpool/vhost1/cfg /jail/vhost1/cfg zfs rw 0 0

#/jail/proto/.zfs/snapshot/1 /old nullfs ro 0 0
/jail/other/.zfs/snapshot/1 /jail/vhost1/usr/extra nullfs ro 0 0
/jail/proto/pkg /jail/vhost1/pkg nullfs ro 0 0
/jail/proto/.zfs/snapshot/1/usr/share /jail/vhost1/share nullfs ro 0 0
`

// switched is switchFstab for the snapshots of one prototype, without a machine.
func switched(text, prototype, name string) (*FstabEdit, []string, error) {
	return switchFstab("/etc/fstab.x", []byte(text), name,
		func(s Snapshot) bool { return within(s.Tree, prototype) }, (&Model{}).snapshots)
}

func TestSwitchFstab(t *testing.T) {
	t.Parallel()
	s, from, err := switched(paperFstab, "/jail/proto", "12")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("proto/.zfs/snapshot/1 /jail/vhost1 ", "proto/.zfs/snapshot/12 /jail/vhost1 ",
		"proto/etc/.zfs/snapshot/1", "proto/etc/.zfs/snapshot/12",
		"snapshot/1/usr", "snapshot/12/usr").Replace(paperFstab)
	if string(s.New) != want || !slices.Equal(from, []string{"1"}) ||
		!slices.Equal(s.Lines, []int{2, 3, 9}) {
		t.Errorf("%v, %v\n%s", from, s.Lines, s.New)
	}
	again, _, err := switched(string(s.New), "/jail/proto", "12")
	if err != nil || string(again.New) != want || len(again.Lines) > 0 {
		t.Errorf("%v, %+v", err, again)
	}
}

func TestSwitchFstabForms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ line, prototype, name, want string }{
		{"zpool/proto@1 /j zfs ro", "zpool/proto", "2", "zpool/proto@2 /j zfs ro"},
		{"zpool/proto/etc@1 /j zfs ro", "zpool/proto", "2", "zpool/proto/etc@2 /j zfs ro"},
		{
			`/jail/a\040b/.cfgd/snapshot/1/etc /j nullfs ro`, "/jail/a b", "new one",
			`/jail/a\040b/.cfgd/snapshot/new\040one/etc /j nullfs ro`,
		},
		{
			"/jail/proto//.zfs/snapshot/1/ /j nullfs ro\r\n", "/jail/proto", "2",
			"/jail/proto//.zfs/snapshot/2/ /j nullfs ro\r\n",
		},
		{`/p/.zfs/snapshot/1\057etc /j nullfs ro`, "/p", "2", `/p/.zfs/snapshot/2/etc /j nullfs ro`},
		{`/p\057.zfs/snapshot/1 /j nullfs ro`, "/p", "2", `/p/.zfs/snapshot/2 /j nullfs ro`},
		{`z/p\1001 /j zfs ro`, "z/p", "2", "z/p@2 /j zfs ro"},
		{"/p/.zfs/snapshot/1 /j nullfs", "/p", "2#", `/p/.zfs/snapshot/2\043 /j nullfs`},
		{
			"/p/.zfs/snapshot/1 /j nullfs ro\n/p/etc/.zfs/snapshot/2 /k nullfs ro", "/p", "2",
			"/p/.zfs/snapshot/2 /j nullfs ro\n/p/etc/.zfs/snapshot/2 /k nullfs ro",
		},
	} {
		s, _, err := switched(c.line, c.prototype, c.name)
		if err != nil || string(s.New) != c.want {
			t.Errorf("%q: %v, %+v, want %q", c.line, err, s, c.want)
		}
	}
	for _, none := range []string{"", "/jail/proto/etc /j nullfs ro\n",
		"/jail/other/.zfs/snapshot/1 /j nullfs ro\n"} {
		if s, _, err := switched(none, "/jail/proto", "2"); err != nil || s != nil {
			t.Errorf("%q: %+v, %v", none, s, err)
		}
	}
	var ce *conffile.Error
	if _, _, err := switched("x\n", "/jail/proto", "2"); !errors.As(err, &ce) || ce.File != "/etc/fstab.x" {
		t.Error(err)
	}
}
