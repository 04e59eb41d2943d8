package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"
)

func versionCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version",
		Action: s.action(runVersion),
	}
}

func runVersion(s *session, _ *cli.Context) error {
	v, platform := version(), runtime.GOOS+"/"+runtime.GOARCH
	return s.print(struct {
		Version  int    `json:"version"`
		Release  string `json:"release"`
		Go       string `json:"go"`
		Platform string `json:"platform"`
	}{1, v, runtime.Version(), platform}, func(b *strings.Builder) {
		fmt.Fprintf(b, "cfgd %s (%s, %s)\n", v, runtime.Version(), platform)
	})
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
