package prototype

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"cfgd/internal/run"
)

// Sender replicates datasets to another machine by zfs send, ssh and zfs receive. It never rolls the
// receiver back and never destroys anything there (no receive -F). If the receiver's own data is in the
// way, it returns an error that says so. Received datasets are read-only, so that nothing changes them
// between two transfers, and transfers are resumable. A send holds no lock of the prototype: it may take
// hours, and zfs send -R holds the snapshots of the stream itself, which zfs(8) then refuses to destroy.
type Sender struct {
	Run  run.Piper
	Host string // an argument of ssh(1)
}

var host = regexp.MustCompile(`^([A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9][A-Za-z0-9._-]*$`)

// SplitHost splits HOST or HOST:DATASET. Both parts become words of a command line on the receiver, so
// only plain names are allowed.
func SplitHost(arg string) (name, to string, err error) {
	name, to, given := strings.Cut(arg, ":")
	if !host.MatchString(name) {
		return "", "", fmt.Errorf("%q is no host: [USER@]HOST or [USER@]HOST:DATASET", name)
	}
	if given && (!DatasetName.MatchString(to) || path.Clean(to) != to) {
		return "", "", fmt.Errorf("%q is no dataset: POOL/NAME", to)
	}
	return name, to, nil
}

// there is a command on the receiver.
func (s *Sender) there(c run.Cmd) run.Cmd {
	return run.Command("ssh", "-o", "BatchMode=yes", s.Host, c.String())
}

// Transfer is the plan of a send.
type Transfer struct {
	Dataset, To string
	Snapshot    string // the newest, which is sent
	Since       string // the newest that both have; "" sends all
	Pipe        run.Pipe
	Estimate    run.Cmd // prints the size of the transfer
	// the dataset whose interrupted transfer is resumed; the rest is sent after it
	Resumes string
}

// Done reports whether the receiver has it already.
func (t *Transfer) Done() bool { return t.Since == t.Snapshot }

// The errors of a send that is refused.
var (
	ErrNoCommon    = errors.New("no snapshot is on both sides")
	ErrNewerThere  = errors.New("has snapshots that are newer than the last common one")
	ErrInterrupted = errors.New("an earlier transfer was cut short")
	ErrToken       = errors.New("a resume token that is not of this")
)

// snapshotList has the snapshots of a dataset and all below it, oldest first: the guid by the rest of
// the dataset's name ("", "/etc") and the snapshot's name.
type snapshotList struct {
	order []string // names of the dataset's own
	guid  map[string]string
	below []string // "", "/etc"
}

func parseSnapshots(dataset, out string) (*snapshotList, error) {
	s := &snapshotList{guid: map[string]string{}}
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		of, name, ok := strings.Cut(f[0], "@")
		rest, below := strings.CutPrefix(of, dataset)
		if len(f) != 2 || !ok || !below || rest != "" && rest[0] != '/' {
			return nil, fmt.Errorf("zfs list: line %q: not a snapshot of %s and its guid", line, dataset)
		}
		if _, err := strconv.ParseUint(f[1], 10, 64); err != nil {
			return nil, fmt.Errorf("zfs list: line %q: %w", line, err)
		}
		if rest == "" {
			s.order = append(s.order, name)
		}
		if !slices.Contains(s.below, rest) {
			s.below = append(s.below, rest)
		}
		s.guid[rest+"@"+name] = f[1]
	}
	return s, nil
}

func listCommand(dataset string) run.Cmd {
	return run.Command("zfs", "list", "-Hpr", "-t", "snapshot", "-s", "createtxg", "-o", "name,guid", dataset)
}

// noDataset reports whether zfs(8) said that there is no such dataset.
func noDataset(err error) bool {
	var e *run.Error
	return errors.As(err, &e) && strings.Contains(e.Stderr, "does not exist")
}

// common returns the newest snapshot that both sides have, with all datasets below it. It compares guids,
// because equal names may be of different snapshots.
func common(here, there *snapshotList) string {
	for _, name := range slices.Backward(here.order) {
		if _, ok := there.guid["@"+name]; !ok {
			continue
		}
		same := true
		for _, b := range here.below {
			if g, ok := here.guid[b+"@"+name]; ok && there.guid[b+"@"+name] != g {
				same = false
			}
		}
		if same {
			return name
		}
	}
	return ""
}

// Plan computes what has to be sent. want picks the snapshot among those that exist here, oldest first.
// It changes nothing.
func (s *Sender) Plan(ctx context.Context, dataset, to string, want func(names []string) string,
	incremental, resume bool) (*Transfer, error) {
	if to == "" {
		to = dataset
	}
	out, err := s.Run.Run(ctx, listCommand(dataset))
	if err != nil {
		return nil, err
	}
	here, err := parseSnapshots(dataset, out)
	if err != nil {
		return nil, err
	}
	t := &Transfer{Dataset: dataset, To: to, Snapshot: want(here.order)}
	if t.Snapshot == "" {
		return nil, fmt.Errorf("%s has no snapshot to send", dataset)
	}
	out, err = s.Run.Run(ctx, s.there(listCommand(to)))
	if noDataset(err) {
		if incremental {
			return nil, fmt.Errorf("%s has no %s: %w", s.Host, to, ErrNoCommon)
		}
		return t, s.full(ctx, t)
	}
	if err != nil {
		return nil, err
	}
	there, err := parseSnapshots(to, out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Host, err)
	}
	if found, err := s.interrupted(ctx, t, here, resume); found || err != nil {
		return t, err
	}
	return t, s.increment(t, here, there)
}

func (s *Sender) full(ctx context.Context, t *Transfer) error {
	t.send("zfs", "send", "-R", t.Dataset+"@"+t.Snapshot)
	t.Pipe.To = s.there(receive(t.To))
	if parent := path.Dir(t.To); strings.Contains(parent, "/") {
		if _, err := s.Run.Run(
			ctx, s.there(run.Command("zfs", "list", "-H", "-o", "name", parent)),
		); err != nil {
			return fmt.Errorf("%s: %s is to be made below %s: %w", s.Host, t.To, parent, err)
		}
	}
	return nil
}

// send fills in the sending command, and the same command as an estimate.
func (t *Transfer) send(words ...string) {
	t.Pipe.From = run.Command(words[0], words[1:]...)
	t.Estimate = run.Command(words[0], append([]string{words[1], "-nvP"}, words[2:]...)...)
}

// receive returns the receiving command. It mounts nothing: the stream has mountpoints that may be in use
// on the receiver.
func receive(to string) run.Cmd {
	return run.Command("zfs", "receive", "-s", "-u", "-o", "readonly=on", to)
}

func (s *Sender) increment(t *Transfer, here, there *snapshotList) error {
	t.Since = common(here, there)
	if t.Since == "" {
		return fmt.Errorf("%w: %s and %s:%s; where no jail of %[3]s uses what is there: zfs destroy -r "+
			"%[4]s on it, and send all", ErrNoCommon, t.Dataset, s.Host, t.To)
	}
	newer := slices.DeleteFunc(slices.Clone(there.order[slices.Index(there.order, t.Since)+1:]),
		func(name string) bool {
			return here.guid["@"+name] == there.guid["@"+name] // ours: what is below it did not arrive yet
		})
	if len(newer) > 0 {
		return fmt.Errorf("%s:%s %w, @%s: @%s; where no jail there uses them: zfs destroy -r %s@%s on it",
			s.Host, t.To, ErrNewerThere, t.Since,
			strings.Join(newer, ", @"), t.To, strings.Join(newer, ","))
	}
	if slices.Index(here.order, t.Since) > slices.Index(here.order, t.Snapshot) {
		return fmt.Errorf("%s:%s has @%s, which is newer than @%s", s.Host, t.To, t.Since, t.Snapshot)
	}
	t.send("zfs", "send", "-R", "-I", "@"+t.Since, t.Dataset+"@"+t.Snapshot)
	t.Pipe.To = s.there(receive(t.To))
	return nil
}

// interrupted looks for an interrupted transfer. The token comes from the receiver. It is accepted only
// if it names a snapshot that exists here, of the dataset that is being sent; otherwise a receiver could
// ask for any data of this machine.
func (s *Sender) interrupted(
	ctx context.Context, t *Transfer, here *snapshotList, resume bool,
) (bool, error) {
	out, err := s.Run.Run(ctx, s.there(run.Command("zfs", "get", "-Hpr", "-t", "filesystem,volume", "-o",
		"name,value", "receive_resume_token", t.To)))
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(out) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 2 || f[1] == "-" || f[1] == "" {
			continue
		}
		rest, below := strings.CutPrefix(f[0], t.To)
		if !below || rest != "" && rest[0] != '/' {
			return true, fmt.Errorf("%s: %w %s: it is of %s", s.Host, ErrToken, t.To, f[0])
		}
		if !resume {
			return true, fmt.Errorf("%w: --resume goes on with it; zfs receive -A %s on %s gives it up",
				ErrInterrupted, f[0], s.Host)
		}
		return true, s.resume(ctx, t, here, rest, f[1])
	}
	return false, nil
}

var token = regexp.MustCompile(`^[0-9a-f-]+$`)

func (s *Sender) resume(ctx context.Context, t *Transfer, here *snapshotList, rest, value string) error {
	giveUp := fmt.Sprintf("zfs receive -A %s%s on %s gives it up", t.To, rest, s.Host)
	if !token.MatchString(value) || value[0] == '-' {
		return fmt.Errorf("%s: %w %s: %.20q…; %s", s.Host, ErrToken, t.Dataset, value, giveUp)
	}
	out, err := s.Run.Run(ctx, run.Command("zfs", "send", "-nvt", value))
	if err != nil {
		return fmt.Errorf("%s: %w %s: %w; %s", s.Host, ErrToken, t.Dataset, err, giveUp)
	}
	name := tokenName(out)
	of, snap, _ := strings.Cut(name, "@")
	if of != t.Dataset+rest || here.guid[rest+"@"+snap] == "" {
		return fmt.Errorf("%s: %w %s: it names %q; %s", s.Host, ErrToken, t.Dataset+rest, name, giveUp)
	}
	t.send("zfs", "send", "-t", value)
	t.Pipe.To = s.there(run.Command("zfs", "receive", "-s", "-u", t.To+rest))
	t.Resumes = t.Dataset + rest
	return nil
}

// tokenName returns the snapshot of a token, from the line "toname = zpool/proto@2" of zfs send -nvt.
func tokenName(out string) string {
	for line := range strings.Lines(out) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "toname = "); ok {
			return v
		}
	}
	return ""
}

// Size returns the bytes of a transfer, 0 if not known, from the line "size" of zfs send -nvP.
func (s *Sender) Size(ctx context.Context, t *Transfer) int64 {
	out, err := s.Run.Run(ctx, t.Estimate)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "size" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return max(n, 0)
		}
	}
	return 0
}

// Send carries out a plan.
func (s *Sender) Send(ctx context.Context, t *Transfer, progress func(n int64)) error {
	_, err := s.Run.RunPipe(ctx, t.Pipe, progress)
	if err != nil {
		return fmt.Errorf("%w; what arrived is kept: --resume goes on with it", err)
	}
	return nil
}
