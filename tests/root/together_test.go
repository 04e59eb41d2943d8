package root

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// machineLines is the rc.conf of a machine that lacks what setup adds.
const machineLines = `hostname="nanoserver"
jail_list="proto vhost1 vhost2"
jail_proto_rootdir="/jail/proto"
jail_proto_hostname="proto"
jail_vhost1_rootdir="/jail/vhost1"
jail_vhost1_hostname="vhost1"
jail_vhost1_fstab="/etc/fstab.vhost1"
jail_vhost2_rootdir="/jail/vhost2"
jail_vhost2_hostname="vhost2"
jail_vhost2_fstab="/etc/fstab.vhost2"
`

// crowded makes a machine with a prototype of two snapshots, and two jails on the first one.
func crowded(t *testing.T) *machine {
	m := &machine{t, t.TempDir()}
	m.write("etc/rc.conf", machineLines)
	m.write("usr/local/etc/cfgd.toml", "[prototype.proto]\nroot = \"/jail/proto\"\n")
	for _, s := range []string{"1", "2"} {
		m.write("jail/proto/.cfgd/snapshot/"+s+"/etc/rc.conf", "hostname=\"proto\"\n")
	}
	m.write("jail/proto/usr/local/etc/app.conf", "app\n")
	for _, j := range []string{"vhost1", "vhost2"} {
		m.write("etc/fstab."+j, fstabOn(j, "1"))
		m.run(0, "jail init "+j)
	}
	return m
}

func fstabOn(jail, snapshot string) string {
	tree := "/jail/proto/.cfgd/snapshot/" + snapshot
	return fmt.Sprintf("%s /jail/%s nullfs ro 0 0\n%[1]s/etc /jail/%[2]s/conf/base/etc nullfs ro 0 0\n", tree,
		jail)
}

// outcomes counts the results of the commands.
type outcomes struct {
	mu      sync.Mutex      // guards the rest
	balance map[string]int  // of jails: creations less destructions that reported success
	killed  map[string]bool // jails of which a command was killed: their balance is not known
	said    map[string]int
}

// Fifty processes at the same time create, destroy and switch jails, run setup, and relocate. Some are
// killed. At the end every file of the host is whole: it has all of its old lines, and the blocks of the
// commands that succeeded.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	m := crowded(t)
	rounds := 5
	if testing.Short() {
		rounds = 2
	}
	o := &outcomes{balance: map[string]int{}, killed: map[string]bool{}, said: map[string]int{}}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range rounds {
		var all sync.WaitGroup
		for i := range 50 {
			rnd := rand.New(rand.NewPCG(seed, uint64(round*50+i)))
			all.Go(func() { m.oneOfMany(rnd, o, round > 0) })
		}
		all.Wait()
	}
	m.afterMany(o)
	t.Logf("%v", o.said)
}

// oneOfMany runs one command, and may kill it. If no command is killed, none finds an interrupted one.
func (m *machine) oneOfMany(rnd *rand.Rand, o *outcomes, kill bool) {
	jail := fmt.Sprintf("web%d", rnd.IntN(8))
	lines := []string{
		fmt.Sprintf("jail create --ip 10.0.0.%s %s", jail[3:],
			jail), "jail destroy --yes " + jail, "jail destroy --yes --force " + jail,
		fmt.Sprintf("jail switch vhost%d %d", 1+rnd.IntN(2), 1+rnd.IntN(2)), "setup --yes", "setup --remove",
		"relocate proto /usr/local/etc", "relocate --undo proto /usr/local/etc", "relocate proto",
		"jail switch ALL 2",
	}
	line := lines[rnd.IntN(len(lines))]
	if rnd.IntN(3) == 0 {
		line = lines[0]
	}
	cmd := m.command(strings.Fields(line)...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		m.Error(err)
		return
	}
	if kill && rnd.IntN(5) == 0 {
		timer := time.AfterFunc(time.Duration(rnd.IntN(400))*time.Millisecond,
			func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	err := cmd.Wait()
	verb := strings.Join(strings.Fields(line)[:2], " ")
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case status.Signaled():
		o.said["killed"]++
		if strings.Contains(line, jail) {
			o.killed[jail] = true
		}
	case err == nil && verb == "jail create":
		o.balance[jail]++
		o.said[verb]++
	case err == nil && verb == "jail destroy":
		o.balance[jail]--
		o.said[verb]++
	case err == nil:
		o.said[verb]++
	default:
		o.said[verb+" refused"]++
		for _, wrong := range []string{"interrupted", "cut short", "no journal", "no record",
			"unexpected end", "is not what it should be", "undo:"} {
			if strings.Contains(out.String(), wrong) && !kill {
				m.Errorf("cfgd %s: %s", line, out.String())
			}
		}
	}
}

// afterMany checks the files, and removes everything that was added.
func (m *machine) afterMany(o *outcomes) {
	m.Helper()
	blocks := m.blocks()
	for i := range 8 {
		jail := fmt.Sprintf("web%d", i)
		n := blocks[jail]
		if n > 1 {
			m.Errorf("%s has %d blocks in rc.conf", jail, n)
		}
		if !o.killed[jail] && n != o.balance[jail] {
			m.Errorf("%s: %d creations more than destructions succeeded, and rc.conf has %d blocks", jail,
				o.balance[jail], n)
		}
		_, errRecord := os.Lstat(m.path("var/db/cfgd/jails/" + jail + ".json"))
		_, errFstab := os.Lstat(m.path("etc/fstab." + jail))
		if !o.killed[jail] && ((errRecord == nil) != (n == 1) || (errFstab == nil) != (n == 1)) {
			m.Errorf("%s: %d blocks, record %v, fstab %v", jail, n, errRecord, errFstab)
		}
		if errRecord == nil {
			m.run(0, "jail destroy --yes --force "+jail)
		} else if n > 0 {
			m.Errorf("%s has a block and no record", jail)
		}
	}
	m.run(0, "jail switch ALL 1") // recovers what was interrupted
	for _, j := range []string{"vhost1", "vhost2"} {
		if got := m.read("etc/fstab." + j); got != fstabOn(j, "1") {
			m.Errorf("fstab of %s:\n%s", j, got)
		}
	}
	m.run(0, "setup --remove")
	if got := m.read("etc/rc.conf"); got != machineLines {
		m.Errorf("rc.conf:\n%s", got)
	}
	m.run(0, "jail create --ip 10.0.0.9 web0") // sweeps what killed processes left beside rc.conf
	names, err := os.ReadDir(m.path("etc"))
	m.must(err)
	for _, e := range names {
		if strings.HasPrefix(e.Name(), ".cfgd.rc.conf.") {
			m.Errorf("left in etc: %s", e.Name())
		}
	}
	if left, err := os.ReadDir(m.path("var/db/cfgd/switch")); err == nil {
		for _, e := range left {
			if !strings.HasPrefix(e.Name(), ".") {
				m.Errorf("left: journal %s", e.Name())
			}
		}
	}
}

// blocks counts the blocks of rc.conf by jail. Each block must be whole, and no other line may be missing.
func (m *machine) blocks() map[string]int {
	m.Helper()
	blocks := map[string]int{}
	var inside string
	var rest []string
	for line := range strings.Lines(m.read("etc/rc.conf")) {
		line = strings.TrimSuffix(line, "\n")
		name, begins := strings.CutPrefix(line, "# cfgd jail create ")
		end, ends := strings.CutSuffix(name, ": end")
		switch {
		case begins && ends && inside == end:
			blocks[end]++
			inside = ""
		case begins && !ends && inside == "":
			inside = name
		case begins:
			m.Errorf("rc.conf: block of %q in that of %q", name, inside)
		case inside == "":
			rest = append(rest, line)
		case !strings.Contains(line, inside):
			m.Errorf("rc.conf: %q in the block of %s", line, inside)
		}
	}
	for line := range strings.Lines(machineLines) {
		if !slices.Contains(rest, strings.TrimSuffix(line, "\n")) {
			m.Errorf("rc.conf lost %q", line)
		}
	}
	return blocks
}
