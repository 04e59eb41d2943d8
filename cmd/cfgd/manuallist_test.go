package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// manualCommands is the part of cfgd(8) that lists the commands, in mdoc(7): what help says of them, so that
// the two cannot differ.
func manualCommands(a *cli.App) string {
	var b strings.Builder
	b.WriteString(".Bl -tag -width indent\n")
	for _, c := range a.Commands {
		manualCommand(&b, "", c)
	}
	b.WriteString(".El\n")
	return b.String()
}

func manualCommand(b *strings.Builder, above string, c *cli.Command) {
	name := strings.TrimSpace(above + " " + c.Name)
	if len(c.Subcommands) > 0 {
		for _, sub := range c.Subcommands {
			manualCommand(b, name, sub)
		}
		return
	}
	fmt.Fprintf(b, ".It Xo\n.Cm %s\n", name)
	flags := visibleFlags(c)
	for _, f := range flags {
		fmt.Fprintf(b, ".Op Fl %s\n", manualFlag(f))
	}
	if c.ArgsUsage != "" {
		fmt.Fprintf(b, ".Ar %s\n", mdoc(c.ArgsUsage))
	}
	b.WriteString(".Xc\n")
	b.WriteString(sentences(capital(c.Usage) + "."))
	for i, paragraph := range strings.Split(c.Description, "\n\n") {
		if i > 0 {
			b.WriteString(".Pp\n")
		}
		b.WriteString(sentences(paragraph))
	}
	if len(flags) == 0 {
		return
	}
	b.WriteString(".Bl -tag -width indent -compact\n")
	for _, f := range flags {
		fmt.Fprintf(b, ".It Fl %s\n%s", manualFlag(f),
			sentences(capital(strings.ReplaceAll(flagUsage(f), "`", ""))+"."))
	}
	b.WriteString(".El\n")
}

// visibleFlags are a command's flags, by name.
func visibleFlags(c *cli.Command) []cli.Flag {
	all := slices.DeleteFunc(slices.Clone(c.Flags),
		func(f cli.Flag) bool { return slices.Contains(f.Names(), "help") })
	slices.SortFunc(all, func(a, b cli.Flag) int { return strings.Compare(a.Names()[0], b.Names()[0]) })
	return all
}

// manualFlag is a flag as mdoc's Fl takes it, with its argument.
func manualFlag(f cli.Flag) string {
	name := f.Names()[0]
	words := "-" + name // Fl writes the first dash
	if len(name) == 1 {
		words = name
	}
	if _, arg, ok := strings.Cut(flagUsage(f), "`"); ok && !isBool(f) {
		arg, _, _ = strings.Cut(arg, "`")
		words += " Ar " + mdoc(arg)
	}
	return words
}

func flagUsage(f cli.Flag) string {
	if d, ok := f.(cli.DocGenerationFlag); ok {
		return d.GetUsage()
	}
	return ""
}

// sentence finds where one ends and another begins.
var sentence = regexp.MustCompile(`([.!?:]\)?) +([A-Z])`)

// sentences writes a text with each on a line of its own, as mdoc(7) wants it.
func sentences(s string) string {
	var b strings.Builder
	if s == "" {
		return ""
	}
	for line := range strings.SplitSeq(sentence.ReplaceAllString(strings.Join(strings.Fields(s), " "),
		"$1\n$2"), "\n") {
		b.WriteString(mdoc(line) + "\n")
	}
	return b.String()
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// mdoc writes a text so that it stands for itself.
func mdoc(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "…", " ...", "–", "-").Replace(strings.TrimSpace(s))
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
