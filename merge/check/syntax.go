package check

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// syntaxes check files for which the system has no checking program, by the names that checkers use. Each
// returns what is wrong, with the line, or nil.
var syntaxes = map[string]func(content []byte) error{"crontab": crontab, "syslog.conf": syslogConf}

// eachLine calls check for the lines that are neither blank nor a comment, with their newlines.
func eachLine(content []byte, check func(line string) error) error {
	n := 0
	for l := range strings.Lines(string(content)) {
		n++
		if text := strings.TrimSpace(l); text == "" || text[0] == '#' {
			continue
		}
		if err := check(l); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return nil
}

// timeFields are the first five fields of a crontab(5) line.
var timeFields = []struct {
	name  string
	least int
	most  int
	names string // three letters each, for the values from least up
}{
	{"minute", 0, 59, ""},
	{"hour", 0, 23, ""},
	{"day of month", 1, 31, ""},
	{"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
	{"day of week", 0, 7, "sunmontuewedthufrisat"},
}

// crontab checks the system's form of crontab(5): NAME=value; or five time fields or @WORD, then a user and a
// command.
func crontab(content []byte) error {
	return eachLine(content, func(line string) error {
		text := strings.TrimSpace(line)
		f := strings.Fields(text)
		name, _, set := strings.Cut(text, "=")
		name = strings.TrimSpace(name)
		switch {
		case !strings.HasSuffix(line, "\n"):
			return errors.New("no newline at its end, and cron(8) leaves such a line out")
		case set && name != "" && !strings.ContainsAny(name, " \t*@"):
			return nil
		case text[0] == '@':
			return atLine(f)
		}
		return timedLine(f)
	})
}

// timedLine checks five time fields, a user and a command.
func timedLine(f []string) error {
	if len(f) < len(timeFields)+2 {
		return fmt.Errorf("%d fields where there ought to be five of time, a user and a command", len(f))
	}
	for i, t := range timeFields {
		for part := range strings.SplitSeq(f[i], ",") {
			if !timePart(part, t.least, t.most, t.names) {
				return fmt.Errorf("%s %q", t.name, f[i])
			}
		}
	}
	return nil
}

// atLine checks @daily, @every_minute or @SECONDS in place of the five fields.
func atLine(f []string) error {
	if len(f) < 3 {
		return fmt.Errorf("no user and command behind %s", f[0])
	}
	switch word := f[0][1:]; word {
	case "reboot",
		"yearly",
		"annually",
		"monthly",
		"weekly",
		"daily",
		"midnight",
		"hourly",
		"every_minute",
		"every_second":
		return nil
	default:
		if _, err := strconv.ParseUint(word, 10, 32); err != nil {
			return fmt.Errorf("%s is no time", f[0])
		}
	}
	return nil
}

// timePart checks *, N or N-M, and /STEP after them.
func timePart(part string, least, most int, names string) bool {
	span, step, stepped := strings.Cut(part, "/")
	if n, err := strconv.Atoi(step); stepped && (err != nil || n < 1) {
		return false
	}
	if span == "*" {
		return true
	}
	from, to, ranged := strings.Cut(span, "-")
	a, ok := timeValue(from, least, names)
	if !ok || a < least || a > most {
		return false
	}
	if !ranged {
		return true
	}
	b, ok := timeValue(to, least, names)
	return ok && b >= least && b <= most && a <= b
}

func timeValue(text string, least int, names string) (int, bool) {
	if n, err := strconv.Atoi(text); err == nil {
		return n, true
	}
	i := strings.Index(names, strings.ToLower(text))
	return least + i/3, len(text) == 3 && i >= 0 && i%3 == 0
}

// syslogConf checks syslog.conf(5): a selector and an action separated by blanks, or a line that begins with
// !, + or -, or an include.
func syslogConf(content []byte) error {
	return eachLine(content, func(line string) error {
		text := strings.TrimSpace(line)
		f := strings.Fields(text)
		switch {
		case strings.ContainsAny(text[:1], "!+-:"), f[0] == "include":
			return nil
		case len(f) < 2:
			return fmt.Errorf("%q has no action", text)
		}
		for sel := range strings.SplitSeq(f[0], ";") {
			if _, level, ok := strings.Cut(sel, "."); !ok || level == "" {
				return fmt.Errorf("selector %q is not FACILITY.LEVEL", sel)
			}
		}
		if a := strings.Join(f[1:], " "); !strings.ContainsAny(a[:1], "/|@-*%") && !plainUser(a) {
			return fmt.Errorf("action %q is neither a file, a pipe, a host nor users", a)
		}
		return nil
	})
}

func plainUser(a string) bool {
	return strings.IndexFunc(a, func(r rune) bool {
		return r > 0x7f ||
			!strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-,. ", r)
	}) < 0
}
