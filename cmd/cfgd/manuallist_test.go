package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// manualCommands returns the list of commands in cfgd(8), in mdoc(7). It is made from the help texts, so that
// the two can't differ.
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

// visibleFlags returns a command's flags in the order of their names.
func visibleFlags(c *cli.Command) []cli.Flag {
	all := ownFlags(c.Flags)
	slices.SortFunc(all, func(a, b cli.Flag) int { return strings.Compare(a.Names()[0], b.Names()[0]) })
	return all
}

// manualFlag returns a flag and its argument for mdoc's Fl.
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

// sentence finds the end of a sentence and the beginning of the next one.
var sentence = regexp.MustCompile(`([.!?:]\)?) +([A-Z])`)

// manualColumns is how long a line of the manual's source may be.
const manualColumns = 110

// sentences writes each sentence on a line of its own, as mdoc(7) requires. A long one has several.
func sentences(s string) string {
	var b strings.Builder
	if s == "" {
		return ""
	}
	for line := range strings.SplitSeq(sentence.ReplaceAllString(strings.Join(strings.Fields(s), " "),
		"$1\n$2"), "\n") {
		for len(line) > manualColumns {
			at := strings.LastIndexByte(line[:manualColumns], ' ')
			b.WriteString(mdoc(line[:at]) + "\n")
			line = line[at+1:]
		}
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

// mdoc escapes a text for mdoc(7).
func mdoc(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "…", " ...", "–", "-").Replace(strings.TrimSpace(s))
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
