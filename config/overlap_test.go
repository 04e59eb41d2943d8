package config

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cfgd/config/conffile/conffiletest"
)

// The index finds what comparing every pair would find.
func TestTreeIndex(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		dir := rapid.StringMatching(`(/[ab]){1,3}(/\.zfs/snapshot/1)?`)
		draw := func(target *Target, key string) targetDir {
			x := targetDir{target: target, key: key, path: dir.Draw(rt, key), writable: key != "base"}
			x.real = x.path
			if rapid.IntRange(0, 3).Draw(rt, "link") == 0 {
				x.real = dir.Draw(rt, "real")
			}
			return x
		}
		var index treeIndex
		var all []targetDir
		for i := range rapid.IntRange(1, 8).Draw(rt, "targets") {
			target := &Target{Name: fmt.Sprint(i)}
			trees := []targetDir{draw(target, "live"), draw(target, "cfg"), draw(target, "base")}
			want := ""
			for _, b := range all {
				for _, a := range trees {
					if want == "" && overlap(a, b) {
						want = b.target.Name + b.key
					}
				}
			}
			got := ""
			if _, b, ok := index.clash(trees); ok {
				got = b.target.Name + b.key
			}
			if got != want {
				rt.Fatalf("%+v: %q, want %q", trees, got, want)
			}
			index.add(trees)
			all = append(all, trees...)
		}
	})
}

// A thousand jails are loaded in well under a second; comparing each with each, by names that lead
// through links, took minutes.
func TestThousandJails(t *testing.T) {
	t.Parallel()
	const n = 1000
	files := map[string]string{}
	var list, jails strings.Builder
	for i := range n {
		name := fmt.Sprintf("j%d", i)
		files["/etc/fstab."+name] = strings.ReplaceAll(paperFstabVhost1, "vhost1", name)
		list.WriteString(name + " ")
		jails.WriteString(name + " { }\n")
	}
	files["/etc/rc.conf"] = "jail_list='" + list.String() + "'\n"
	files["/etc/jail.conf"] = strings.Replace(jailConf, "web {\n\thost.hostname = \"web.domain.local\";\n}\n",
		jails.String(), 1)
	m := mustLoad(t, files)
	conffiletest.WantProblems(t, m.Problems)
	if len(m.Targets) != n || len(m.Prototypes) != 1 {
		t.Errorf("%d targets, %d prototypes", len(m.Targets), len(m.Prototypes))
	}
}
