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

func TestSwitchFstab(t *testing.T) {
	t.Parallel()
	s, err := SwitchFstab("/etc/fstab.vhost1", []byte(paperFstab), "/jail/proto", "12")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("proto/.zfs/snapshot/1 /jail/vhost1 ", "proto/.zfs/snapshot/12 /jail/vhost1 ",
		"proto/etc/.zfs/snapshot/1", "proto/etc/.zfs/snapshot/12",
		"snapshot/1/usr", "snapshot/12/usr").Replace(paperFstab)
	if string(s.Data) != want || !slices.Equal(s.From, []string{"1"}) ||
		!slices.Equal(s.Lines, []int{2, 3, 9}) {
		t.Errorf("%v, %v\n%s", s.From, s.Lines, s.Data)
	}
	again, err := SwitchFstab("/etc/fstab.vhost1", s.Data, "/jail/proto", "12")
	if err != nil || string(again.Data) != want || len(again.Lines) > 0 {
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
		{
			"/p/.zfs/snapshot/1 /j nullfs ro\n/p/etc/.zfs/snapshot/2 /k nullfs ro", "/p", "2",
			"/p/.zfs/snapshot/2 /j nullfs ro\n/p/etc/.zfs/snapshot/2 /k nullfs ro",
		},
	} {
		s, err := SwitchFstab("f", []byte(c.line), c.prototype, c.name)
		if err != nil || string(s.Data) != c.want {
			t.Errorf("%q: %v, %+v, want %q", c.line, err, s, c.want)
		}
	}
	for _, bad := range []string{
		"", "/jail/proto/etc /j nullfs ro\n", "/jail/other/.zfs/snapshot/1 /j nullfs ro\n", "x\n",
	} {
		var ce *conffile.Error
		if _, err := SwitchFstab("/etc/fstab.x", []byte(bad), "/jail/proto", "2"); !errors.As(err, &ce) ||
			ce.File != "/etc/fstab.x" {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
