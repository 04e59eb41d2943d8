package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/nano"
)

func nanoInstallCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "install", ArgsUsage: "FILE|-",
		Usage: "write an image into the slice that does not run",
		Description: "" +
			"FILE is a plain, gzip, xz or zstd image of a slice (_.disk.image), of a whole " +
			"medium, MBR or GPT (_.disk.full), or of a bare filesystem (-upgrade.img). A - is " +
			"standard input. Of a medium, the first slice that holds a system is taken, from " +
			"standard input the first slice. The image is fitted to this disk: into a GPT " +
			"goes partition a of a slice with a BSD label; before a bare filesystem in a " +
			"slice of an MBR go the boot blocks and the label of the running slice.\n\n" +
			"Before it writes, cfgd checks that the slice neither runs nor is mounted, and " +
			"that the image holds a filesystem and fits. A FILE is read to its end first, to " +
			"check its digest, that it is complete, that its fstabs can name its own slice, " +
			"and that it has a loader and a kernel. Of standard input these are checked at the " +
			"end, when the other slice is overwritten already. The running slice still boots " +
			"then.\n\n" +
			"The boot blocks are written last, after the rest was read back and compared. " +
			"Then the fstabs are made to name their own slice, and the filesystem gets the " +
			"label that they name. The running system's /boot/loader.conf.local and " +
			"/boot.config are copied.\n\n" +
			"Before the first byte is written, the running slice is made to boot next, even if " +
			"it was on trial itself. Only when all is done the new slice boots next, unless it " +
			"cannot boot. If the loader can do that (gptboot), it boots once, until cfgd nano " +
			"confirm.",
		Flags: []cli.Flag{
			&cli.BoolFlag{
				Name: "no-carry", Usage: "leave out /boot/loader.conf.local and /boot.config",
			},
			&cli.StringFlag{
				Name: "sha256", Usage: "refuse a FILE whose SHA-256, as it comes in, is not `HEX`",
			},
			&cli.BoolFlag{Name: "activate", Usage: "boot it next (the default)", Value: true},
			&cli.BoolFlag{Name: "no-activate", Usage: "only write it"},
			&cli.IntFlag{
				Name: "slice", Usage: "write slice `NUMBER`",
				DefaultText: "the one that does not run",
			},
		},
		Action: s.action(runNanoInstall),
	}
}

func runNanoInstall(s *session, c *cli.Context) error {
	sum := c.String("sha256")
	if sum != "" && (len(sum) != 64 || strings.Trim(strings.ToLower(sum), "0123456789abcdef") != "") {
		return usagef("--sha256 %s: not 64 hexadecimal digits", sum)
	}
	m, err := s.machine()
	if err != nil {
		return err
	}
	d, err := m.disk(c.Context, s.warnMachine)
	if err != nil {
		return err
	}
	from := s.in
	if name := c.Args().First(); name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		from = f
	}
	bar := &progress{}
	in := nano.Install{
		From: from, SHA256: sum, Slice: c.Int("slice"), Carry: !c.Bool("no-carry"),
		Activate: c.Bool("activate") && !c.Bool("no-activate"), Trials: m.trials(d),
		Begin:    func(total int64, name string) { bar = newProgress(s.err, name, total) },
		Progress: func(n int64) { bar.at(n) },
	}
	if host := m.host(); host != nil {
		in.Within = host.Trial
	}
	r, err := d.Install(c.Context, in)
	bar.end()
	if err != nil {
		return err
	}
	return reportInstalled(s, c, d, in, r)
}

// reportInstalled prints what was written, and what boots next.
func reportInstalled(s *session, c *cli.Context, d *nano.Disk, in nano.Install, r *nano.Installed) error {
	if r.Lacks != "" {
		s.warn(r.Slice.Name, "cannot boot: "+r.Lacks)
	}
	if err := s.print(struct {
		Version int    `json:"version"`
		Slice   string `json:"slice"`
		Form    string `json:"form"`
		Bytes   int64  `json:"bytes"`
		SHA256  string `json:"sha256"`
		Once    bool   `json:"once"`
		Kept    bool   `json:"kept,omitempty"` // the running system was on trial, and stays
	}{1, r.Slice.Name, r.Form, r.Bytes, r.Digest, r.Once, r.Kept},
		func(b *strings.Builder) { printInstalled(b, r, d.Name(d.Running)) }); err != nil || s.json {
		return err
	}
	if err := reportNext(s, c, d); err != nil || r.Once || !in.Activate {
		return err
	}
	return s.printf("%s\n", goesBackText(in.Within))
}

func printInstalled(b *strings.Builder, r *nano.Installed, running string) {
	what := r.Form + " image"
	if r.Full {
		what += " of a whole medium"
	}
	fmt.Fprintf(b, "%s %s written, %s, SHA-256 %s, and read back\n", r.Slice.Name, what,
		bytesText(uint64(r.Bytes)), r.Digest)
	for _, f := range r.Fstabs {
		fmt.Fprintf(b, "%s /%s names it for /\n", r.Slice.Name, f)
	}
	for _, f := range r.Carried {
		fmt.Fprintf(b, "%s /%s of the running system carried over\n", r.Slice.Name, f)
	}
	if r.Kept {
		fmt.Fprintf(b, "%s, which runs, was on trial and stays from now on: it is what to go back to\n",
			running)
	}
}

// goesBackText tells who goes back from a system that its loader cannot boot once. trial is cfgd's own; 0 is
// none.
func goesBackText(trial time.Duration) string {
	if trial > 0 {
		return fmt.Sprintf("it is on trial for %v: the loader cannot boot a system once; cfgd itself "+
			"goes back unless cfgd nano confirm is run", trial)
	}
	return "nothing goes back by itself: the loader cannot boot a system once, and cfgd.toml has no trial"
}
