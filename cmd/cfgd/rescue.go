package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"cfgd/internal/pathname"
	"cfgd/jailhooks"
)

func rescueCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "rescue", Usage: "list and restore archives of what a jail's stop could not save",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list the archives",
				Description: "" +
					"Prints one line for each archive, with the jail that it is of, its size and its time. " +
					"tar tf ARCHIVE lists the files in it.",
				Action: s.action(runRescueList),
			},
			{
				Name: "restore", ArgsUsage: "TARGET ARCHIVE",
				Usage: "bring an archive back into live, and save it",
				Description: "" +
					"The jail must be populated. ARCHIVE is a name that cfgd rescue list shows, or a " +
					"path. What it holds replaces what is there; cfgd rollback goes back. The archive " +
					"stays: remove it when all is well. The archive of another jail is refused without " +
					"--force. Without room for all of it, nothing is changed.",
				Flags: []cli.Flag{&cli.BoolFlag{
					Name: "force", Usage: "take the archive of another jail",
				}},
				Action: s.action(runRescueRestore),
			},
		},
	}
}

// listedArchive is the JSON of an archive.
type listedArchive struct {
	Target  string    `json:"target"`
	Archive string    `json:"archive"`
	Bytes   int64     `json:"bytes"`
	Time    time.Time `json:"time"`
}

func runRescueList(s *session, _ *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	all, err := jailhooks.Archives(m.Path(rescueDir))
	if err != nil {
		return err
	}
	list := []listedArchive{}
	for _, a := range all {
		list = append(list, listedArchive{a.Target, a.Name, a.Bytes, a.Time})
	}
	return s.print(struct {
		Version  int             `json:"version"`
		Archives []listedArchive `json:"archives"`
	}{1, list}, func(b *strings.Builder) { printArchives(b, list) })
}

func printArchives(b *strings.Builder, list []listedArchive) {
	if len(list) == 0 {
		fmt.Fprintf(b, "no archives in %s\n", rescueDir)
		return
	}
	w := newTable()
	w.row("TARGET", "TIME", "SIZE", "ARCHIVE")
	for _, r := range list {
		w.row(r.Target, r.Time.Local().Format(time.DateTime), bytesText(uint64(r.Bytes)),
			pathname.Quote(r.Archive))
	}
	w.print(b)
}

func runRescueRestore(s *session, c *cli.Context) error {
	m, err := s.machine()
	if err != nil {
		return err
	}
	t, err := m.find(c.Args().First())
	if err != nil {
		return err
	}
	name := c.Args().Get(1)
	if of := jailhooks.ArchiveTarget(filepath.Base(name)); of != "" && of != t.Name && !c.Bool("force") {
		return fmt.Errorf("%s: %s is of %s: cfgd rescue restore %[3]s %[2]s brings it back there, --force "+
			"brings it into %[1]s; nothing was changed", t.Name, pathname.Quote(name), of)
	}
	full := name
	if !strings.Contains(name, "/") {
		full = m.Path(filepath.Join(rescueDir, name))
	}
	f, err := os.Open(full)
	if err != nil {
		return fmt.Errorf("%s: %w; cfgd rescue list shows what there is", t.Name, err)
	}
	defer f.Close()
	r, err := m.overlay(t).Unrescue(c.Context, f, "brought back from "+filepath.Base(name))
	if err != nil {
		return fmt.Errorf("%s: %s: %w", t.Name, filepath.Base(name), err)
	}
	return reportRestored(s, t.Name, r, true)
}
