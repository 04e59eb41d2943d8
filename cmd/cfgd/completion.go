package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

func completionCommand(s *session) *cli.Command {
	return &cli.Command{
		Name: "completion", ArgsUsage: "sh|zsh|bash|fish|tcsh",
		Usage: "print the completion of the command line for a shell",
		Description: "" +
			"For bash: eval \"$(cfgd completion bash)\"\n\n" +
			"For zsh: source <(cfgd completion zsh)\n\n" +
			"For fish: cfgd completion fish | source\n\n" +
			"For tcsh: eval \"`cfgd completion tcsh`\"\n\n" +
			"For sh: eval \"$(cfgd completion sh)\" does what the shell of that name can do.",
		Action: s.action(runCompletion),
	}
}

func runCompletion(s *session, c *cli.Context) error {
	write, ok := completions[c.Args().First()]
	if !ok {
		return usagef("completion: %q is none of sh, zsh, bash, fish, tcsh", c.Args().First())
	}
	return s.printf("%s", write(c.App))
}

// The scripts are cfgd's own, because those of the library for command lines run cfgd at each TAB, and
// after a -- they run the command itself, a save or a switch. They know no names of targets, and no tcsh.

// completions has the function that writes the script for each shell.
var completions = map[string]func(*cli.App) string{
	"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion, "tcsh": tcshCompletion,
	"sh": shCompletion,
}

// listTargets is the shell command that prints the names of the targets.
const listTargets = `cfgd status 2>/dev/null | awk 'NR > 1 { print $1 }'`

// flagWords returns a command's flags as they are typed.
func flagWords(flags []cli.Flag) []string {
	var out []string
	for _, f := range ownFlags(flags) {
		for _, name := range f.Names() {
			if len(name) == 1 {
				out = append(out, "-"+name)
			} else {
				out = append(out, "--"+name)
			}
		}
	}
	return out
}

// ownFlags leaves out --help, which each command has: a command that takes no other flag is completed by
// targets or files at once.
func ownFlags(flags []cli.Flag) []cli.Flag {
	return slices.DeleteFunc(slices.Clone(flags), func(f cli.Flag) bool { return f.Names()[0] == "help" })
}

// commandNames returns the names of commands.
func commandNames(commands []*cli.Command) []string {
	var out []string
	for _, c := range commands {
		out = append(out, c.Name)
	}
	return out
}

// flagCases returns the branches of a case over "COMMAND" and "COMMAND SUBCOMMAND". Each sets words to what
// may follow.
func flagCases(a *cli.App) string {
	var b strings.Builder
	var walk func(commands []*cli.Command, before string)
	walk = func(commands []*cli.Command, before string) {
		for _, c := range commands {
			next := append(flagWords(c.Flags), commandNames(c.Subcommands)...)
			fmt.Fprintf(&b, "    %q) words=%q ;;\n", before+c.Name, strings.Join(next, " "))
			walk(c.Subcommands, before+c.Name+" ")
		}
	}
	walk(a.Commands, "")
	return b.String()
}

func bashCompletion(a *cli.App) string {
	return `_cfgd() {
  local cur=${COMP_WORDS[COMP_CWORD]} words command= w
  for w in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $w in -*) ;; *) command="${command:+$command }$w" ;; esac
  done
  words="` + strings.Join(append(commandNames(a.Commands), flagWords(a.Flags)...), " ") + `"
  case ${command% *} in
    completion) words="sh zsh bash fish tcsh" ;;
  esac
  case $command in
` + flagCases(a) + `  esac
  case $command in
    "status"|"save"|"diff"|"restore"|"log"|"show"|"jail init"|"jail cleanup")
        words="$words $(` + listTargets + `)" ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _cfgd cfgd
`
}

// zshCompletion lets zsh run the functions of bash.
func zshCompletion(a *cli.App) string {
	return "autoload -U +X bashcompinit && bashcompinit\n" + bashCompletion(a)
}

func fishCompletion(a *cli.App) string {
	var b strings.Builder
	b.WriteString("complete -c cfgd -f\n")
	for _, c := range a.Commands {
		fmt.Fprintf(&b, "complete -c cfgd -n __fish_use_subcommand -a %s -d %s\n", c.Name, fishQuote(c.Usage))
		fishFlags(&b, c.Name, c.Flags)
		for _, sub := range c.Subcommands {
			fmt.Fprintf(&b, "complete -c cfgd -n '__fish_seen_subcommand_from %s' -a %s -d %s\n", c.Name,
				sub.Name, fishQuote(sub.Usage))
			fishFlags(&b, sub.Name, sub.Flags)
		}
	}
	fishFlags(&b, "", a.Flags)
	b.WriteString("complete -c cfgd -n '__fish_seen_subcommand_from status save diff restore log show init " +
		"cleanup' -a '(" + strings.ReplaceAll(listTargets, "'", `"`) + ")'\n")
	b.WriteString("complete -c cfgd -n '__fish_seen_subcommand_from completion' -a 'sh zsh bash fish tcsh'\n")
	return b.String()
}

func fishFlags(b *strings.Builder, command string, flags []cli.Flag) {
	when := ""
	if command != "" {
		when = " -n '__fish_seen_subcommand_from " + command + "'"
	}
	for _, f := range ownFlags(flags) {
		usage := f.(cli.DocGenerationFlag).GetUsage()
		for _, name := range f.Names() {
			form := "-l"
			if len(name) == 1 {
				form = "-s"
			}
			fmt.Fprintf(b, "complete -c cfgd%s %s %s -d %s\n", when, form, name,
				fishQuote(strings.ReplaceAll(usage, "`", "")))
		}
	}
}

func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(text) + "'"
}

func tcshCompletion(a *cli.App) string {
	var subs strings.Builder
	for _, c := range a.Commands {
		if len(c.Subcommands) > 0 {
			fmt.Fprintf(&subs, " 'n/%s/(%s)/'", c.Name, strings.Join(commandNames(c.Subcommands), " "))
		}
	}
	return fmt.Sprintf("complete cfgd 'p/1/(%s)/'%s 'n/{completion}/(sh zsh bash fish tcsh)/' "+
		"'n/{status,save,diff,restore,log,show,init,cleanup}/`cfgd check --json | tr , \"\\\\n\" "+
		"| sed -n s/.*name.:.//p | tr -d \\\"`/'\n",
		strings.Join(commandNames(a.Commands), " "), subs.String())
}

// shCompletion is for a shell that is called sh. Bash and zsh complete as under their own names. The ksh of
// OpenBSD and MirBSD completes words of an array. FreeBSD's sh completes only names of files, so nothing is
// set there.
func shCompletion(a *cli.App) string {
	return "if [ -n \"$BASH_VERSION\" ]; then eval \"$(cfgd completion bash)\"\n" +
		"elif [ -n \"$ZSH_VERSION\" ]; then eval \"$(cfgd completion zsh)\"\n" +
		"elif [ -n \"$KSH_VERSION\" ]; then set -A complete_cfgd_1 -- " +
		strings.Join(commandNames(a.Commands), " ") + "\nfi\n"
}
