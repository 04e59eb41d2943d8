package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// fileGroup is a directory of many similar files.
type fileGroup struct {
	dir   string
	files int
	mode  uint32
	name  string // of a file: %s is a word, %d the file's number
	mean  int    // size in bytes
}

// fileGroups are the directories of FreeBSD's /etc, and of the usual packages below it.
var fileGroups = []fileGroup{
	{"rc.d", 160, 0o555, "%s%d", 1500},
	{"periodic/daily", 30, 0o555, "%[2]d.%[1]s", 1200},
	{"periodic/weekly", 8, 0o555, "%[2]d.%[1]s", 900},
	{"periodic/monthly", 4, 0o555, "%[2]d.%[1]s", 700},
	{"periodic/security", 20, 0o555, "%[2]d.%[1]s", 1800},
	{"pam.d", 24, 0o644, "%s%d", 400},
	{"mtree", 12, 0o444, "BSD.%s%d.dist", 9000},
	{"newsyslog.conf.d", 12, 0o644, "%s%d.conf", 300},
	{"ssl/blacklisted", 12, 0o444, "%s%d.pem", 4000},
	{"devd", 18, 0o644, "%s%d.conf", 1500},
	{"security", 6, 0o600, "audit_%s%d", 900},
	{"mail", 14, 0o644, "%s%d.cf", 6000},
	{"namedb/master", 40, 0o644, "%s%d.db", 1500},
	{"defaults", 6, 0o444, "%s%d.conf", 20000},
	{"wireguard", 4, 0o600, "%s%d.conf", 400},
	{"zfs/compatibility.d", 60, 0o644, "openzfs-%s-%d", 400},
	{certs, 560, 0o444, "%s_%d.pem", 1900},
	{"local/ssl/private", 12, 0o600, "%s%d.key", 1700},
	{"local/rc.d", 40, 0o555, "%s%d", 1300},
	{"local/nginx/conf.d", 60, 0o644, "%s%d.conf", 2200},
	{"local/nginx/sites", 80, 0o644, "%s%d.conf", 1800},
	{"local/php/conf.d", 40, 0o644, "ext-%[2]d-%[1]s.ini", 120},
	{"local/postfix", 40, 0o644, "%s%d.cf", 8000},
	{fonts, 90, 0o644, "%[2]d-%[1]s.conf", 1500},
	{"local/bash_completion.d", 180, 0o644, "%s%d", 5000},
	{"local/apache24/extra", 40, 0o644, "httpd-%s%d.conf", 5000},
	{"local/mime", 20, 0o644, "%s%d.types", 50000},
	{"local/periodic/daily", 10, 0o555, "%[2]d.%[1]s", 900},
	{"local/sudoers.d", 6, 0o440, "%s%d", 200},
	{"local/snmp/mibs", 160, 0o444, "%s-MIB-%d.txt", 40000},
	{"local/dovecot/conf.d", 40, 0o644, "%[2]d-%[1]s.conf", 2500},
	{"local/monit.d", 30, 0o644, "%s%d", 500},
	{"local/ImageMagick-7", 14, 0o644, "%s%d.xml", 4000},
	{"local/vim/after", 160, 0o644, "%s%d.vim", 3000},
	{"local/pam.d", 12, 0o644, "%s%d", 300},
	{"local/logstash/patterns", 40, 0o644, "%s%d", 12000},
	{"local/openvpn/keys", 20, 0o600, "%s%d.key", 1700},
}

const (
	certs = "local/ssl/certs"
	fonts = "local/fonts/conf.avail"

	hashedCerts = 400 // number of links in ssl/certs to certs
	enabledFont = 20  // number of links in local/fonts/conf.d to fonts
	emptyDirs   = 150
)

// single are the files that belong to no group, with their sizes in bytes.
var single = map[string]int{
	"rc.conf": 600, "sysctl.conf": 240, "hosts": 400, "services": 60000, "protocols": 3500,
	"login.conf": 7000, "syslog.conf": 800,
	"newsyslog.conf": 1000, "ttys": 1200, "crontab": 600, "ntp.conf": 2000, "ssh/sshd_config": 2800,
	"ssh/ssh_config": 1100,
	"nsswitch.conf":  260, "motd.template": 500, "profile": 400, "devfs.conf": 900, "pf.conf": 1300,
	"shells": 170, "resolv.conf": 90,
	"inetd.conf": 2500, "freebsd-update.conf": 1500, "master.passwd": 2000, "passwd": 1800,
	"group": 500, "defaults/rc.conf": 17000,
	"defaults/periodic.conf": 8000, "local/nginx/nginx.conf": 2500, "local/sudoers": 2300,
	"local/pkg.conf": 1800, "local/my.cnf": 1300,
	"local/php.ini": 42000, "local/a file with blanks.conf": 110, "local/grün.conf": 110,
}

// tables are databases, which are not text, with their sizes in bytes.
var tables = map[string]int{
	"pwd.db": 40_000, "spwd.db": 40_000, "login.conf.db": 30_000, "local/share/table0.db": 180_000,
	"local/share/table1.db": 240_000,
	"local/share/table2.db": 420_000, "local/share/table3.db": 700_000,
	"local/share/table4.db": 900_000, "local/share/table5.db": 1_300_000,
	"local/share/table6.db": 1_900_000, "local/share/table7.db": 2_600_000,
	"local/share/table8.db": 3_400_000,
}

var words = []string{"listen", "enable", "path", "user", "group", "mode", "limit", "cache", "buffer",
	"address", "port", "server", "root", "level",
	"policy", "allow", "key", "rotate", "daily", "host", "option", "flags", "backend", "proxy",
	"worker", "queue", "retry", "interval"}

// born is the time of the oldest file of a tree.
var born = time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC)

// item is one name of a generated tree: a file, a link or a directory.
type item struct {
	path  string
	mode  uint32 // permission bits
	size  int    // of a file
	seed  uint64 // of a file's content
	table bool   // content that is not text
	link  string // target; the item is a symbolic link then
	dir   bool
	when  time.Time
}

// plan lists a tree shaped like FreeBSD's /etc with packages, directories before what is in them. At scale 1
// it has about 2,800 entries and 25 MB. The same seed and scale give the same tree.
func plan(seed uint64, scale float64) []item {
	p := &planner{r: rand.New(rand.NewPCG(seed, 1)), dirs: map[string]bool{".": true}, scale: scale}
	for _, name := range sortedKeys(single) {
		p.file(name, 0o644, single[name], false)
	}
	for _, name := range sortedKeys(tables) {
		p.file(name, 0o600, p.times(tables[name]), true)
	}
	for _, g := range fileGroups {
		p.group(g)
	}
	p.links()
	for i := range p.times(emptyDirs) {
		p.dir(fmt.Sprintf("local/modules/m%02d/%s%d", i%12, p.word(), i))
	}
	return p.items
}

type planner struct {
	r     *rand.Rand
	scale float64
	items []item
	dirs  map[string]bool
}

func (p *planner) times(n int) int { return int(float64(n) * min(p.scale, 1)) }

func (p *planner) word() string { return words[p.r.IntN(len(words))] }

func (p *planner) dir(name string) {
	if p.dirs[name] {
		return
	}
	p.dirs[name] = true
	p.dir(path.Dir(name))
	p.items = append(p.items, item{path: name, mode: 0o755, dir: true, when: born})
}

func (p *planner) file(name string, mode uint32, size int, table bool) {
	p.dir(path.Dir(name))
	when := born.Add(time.Duration(p.r.IntN(1e7)) * time.Second)
	p.items = append(p.items, item{
		path: name, mode: mode, size: size, seed: p.r.Uint64(), table: table, when: when,
	})
}

func (p *planner) link(name, target string) {
	p.dir(path.Dir(name))
	p.items = append(p.items, item{path: name, link: target, when: born})
}

func (p *planner) group(g fileGroup) {
	p.dir(g.dir)
	spread := []float64{0.3, 0.6, 0.9, 1.2, 2.0} // around the mean
	for i := range int(float64(g.files) * p.scale) {
		size := float64(g.mean) * spread[p.r.IntN(len(spread))]
		p.file(g.dir+"/"+fmt.Sprintf(g.name, p.word(), i), g.mode, int(size), false)
	}
}

func (p *planner) links() {
	for i, f := range p.in(certs, p.times(hashedCerts)) {
		p.link(fmt.Sprintf("ssl/certs/%08x.%d", p.r.Uint32(), i%2), "../../"+f)
	}
	for _, f := range p.in(fonts, p.times(enabledFont)) {
		p.link("local/fonts/conf.d/"+path.Base(f), "../conf.avail/"+path.Base(f))
	}
	p.link("localtime", "../usr/share/zoneinfo/UTC")
	p.link("aliases", "mail/aliases")
	p.link("termcap", "../usr/share/misc/termcap")
	p.link("rmt", "../usr/sbin/rmt")
	p.link("local/etc.loop", ".")
}

// in returns at most n files of a directory.
func (p *planner) in(dir string, n int) []string {
	var out []string
	for _, it := range p.items {
		if path.Dir(it.path) == dir && len(out) < n {
			out = append(out, it.path)
		}
	}
	return out
}

// content makes a file's content from its seed.
func (it *item) content() []byte {
	r := rand.New(rand.NewPCG(it.seed, 2))
	if it.table {
		b := make([]byte, it.size)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	var b bytes.Buffer
	for b.Len() < it.size {
		fmt.Fprintf(&b, "%s_%s = %d\n", words[r.IntN(len(words))], words[r.IntN(len(words))], r.IntN(100000))
	}
	return b.Bytes()[:it.size]
}

// writeTree makes the tree in an empty or missing directory.
func writeTree(root string, items []item) error {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for i := range items {
		if err := items[i].write(root); err != nil {
			return err
		}
	}
	for i := len(items) - 1; i >= 0; i-- { // a directory after its contents
		if err := items[i].settle(root); err != nil {
			return err
		}
	}
	return os.Chtimes(root, born, born)
}

func (it *item) write(root string) error {
	full := filepath.Join(root, it.path)
	switch {
	case it.dir:
		return os.Mkdir(full, 0o755)
	case it.link != "":
		return os.Symlink(it.link, full)
	}
	return os.WriteFile(full, it.content(), 0o600)
}

// settle gives the item its permissions and time, whatever the umask is.
func (it *item) settle(root string) error {
	full := filepath.Join(root, it.path)
	if it.link == "" {
		if err := os.Chmod(full, os.FileMode(it.mode)); err != nil {
			return err
		}
	}
	ts := unix.NsecToTimespec(it.when.UnixNano())
	return unix.UtimesNanoAt(unix.AT_FDCWD, full, []unix.Timespec{ts, ts}, unix.AT_SYMLINK_NOFOLLOW)
}

// measure returns how many entries and bytes of content a plan has.
func measure(items []item) (entries, size int) {
	for i := range items {
		size += items[i].size
	}
	return len(items), size
}

func sortedKeys(m map[string]int) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
