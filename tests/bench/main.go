// Command bench measures cfgd against other tools on one machine in one run.
//
// It prints a table of speeds. Each row is one kind of work, which cfgd and a peer do in turn on the same
// tree. It has the medians of several rounds, and the ratio that should be reached. The tree is generated,
// and resembles FreeBSD's /etc with packages.
//
// "In the process" is the cost for the daemon: one call of package overlay in a running process. "As a
// process" starts this program again, as a peer is started. Peers are timed from start to end.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// bench is a group of rows that are measured together.
type bench struct {
	name string
	run  func(context.Context, *lab) ([]row, error)
}

var benches = []bench{
	{"scan", benchScan},
	{"targets", benchTargets},
	{"populate", benchPopulate},
	{"save", benchSave},
	{"merge", benchMerge},
	{"jails", benchJails},
	{"image", benchImage},
	{"crowd", benchCrowd},
	{"memory", benchMemory},
	{"daemon", benchDaemon},
}

// options are the flags.
type options struct {
	scale   float64
	seed    uint64
	rounds  int
	targets int
	saves   int
	crowd   int
	idle    time.Duration
	cfg     string
	only    string
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == childWord {
		exit(runChild(os.Args[2:]))
	}
	o, err := parse(os.Args[1:])
	if err != nil {
		os.Exit(2) // package flag has printed the reason
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	err = measureAll(ctx, o)
	stop()
	exit(err)
}

func exit(err error) {
	if err == nil {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

func parse(args []string) (*options, error) {
	o := &options{scale: 1}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.Func("tree", "`full` or small: a tenth of the tree", func(s string) error {
		scale, ok := map[string]float64{"full": 1, "small": 0.1}[s]
		if !ok {
			return errors.New("full or small")
		}
		o.scale = scale
		return nil
	})
	f.Uint64Var(&o.seed, "seed", 1, "of the tree")
	f.IntVar(&o.rounds, "rounds", 15, "rounds of which the median is taken")
	f.IntVar(&o.targets, "targets", 100, "targets of the row for many")
	f.IntVar(&o.saves, "saves", 1000, "edits to save one by one")
	f.IntVar(&o.crowd, "crowd", 30000, "files to create at once")
	f.DurationVar(&o.idle, "idle", time.Minute, "how long the daemon is left alone")
	f.StringVar(&o.cfg, "cfg", "", "`directory` on a real disk for cfg (default: where temporary files are)")
	f.StringVar(&o.only, "only", "", "measure these alone: "+names())
	return o, f.Parse(args)
}

func names() string {
	var s []string
	for _, b := range benches {
		s = append(s, b.name)
	}
	return strings.Join(s, ",")
}

func measureAll(ctx context.Context, o *options) (err error) {
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	var rows []row
	for _, b := range benches {
		if o.only != "" && !strings.Contains(","+o.only+",", ","+b.name+",") {
			continue
		}
		fmt.Fprintf(os.Stderr, "%s…\n", b.name)
		got, err := b.run(ctx, l)
		if err != nil {
			return errors.Join(fmt.Errorf("%s: %w", b.name, err), ctx.Err())
		}
		rows = append(rows, got...)
	}
	fmt.Println(l.describe())
	return printTable(os.Stdout, rows)
}
