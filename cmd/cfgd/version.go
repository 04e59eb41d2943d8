package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

func (s *session) versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version",
		Action: func(c *cli.Context) error {
			if err := counted(c, 0, 0); err != nil {
				return err
			}
			v := version()
			if s.json {
				return s.print(struct {
					Version  int    `json:"version"`
					Release  string `json:"release"`
					Go       string `json:"go"`
					Platform string `json:"platform"`
				}{1, v, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH})
			}
			_, err := fmt.Fprintf(s.out, "cfgd %s (%s, %s/%s)\n", v, runtime.Version(), runtime.GOOS,
				runtime.GOARCH)
			return err
		},
	}
}

// version returns the version that the go command put into the program: a tag, or the commit and its time.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	return "devel"
}
