// Package rcconf evaluates rc.conf(5) and the files that go with it, as far as that is possible without a
// shell, and returns the variables with the file and line of each.
//
// shell.go parses sh(1), words.go expands words, statements.go follows assignments, and vars.go holds the
// variables. What always holds: nothing is run. A variable whose value only a shell would know is unknown
// from there on, and never guessed; if it is one of the jail_ variables, a warning names the line.
package rcconf

import (
	"path"
	"strings"

	"cfgd/config/conffile"
)

// Load reads what rc.d/jail would: defaults/rc.conf, the files that rc_conf_files names, and
// rc.conf.d/jail below /etc and /usr/local/etc, a file or a directory of files. Files that are not there
// are no error.
func Load(read *conffile.Files) (*Conf, error) {
	c := newConf(read)
	if err := c.file("/etc/defaults/rc.conf"); err != nil {
		return nil, err
	}
	files := []string{"/etc/rc.conf", "/etc/rc.conf.local"}
	if v := c.vars["rc_conf_files"]; v.known && v.value != "" {
		files = strings.Fields(v.value)
	}
	for _, dir := range []string{"/etc/rc.conf.d", "/usr/local/etc/rc.conf.d"} {
		files = append(files, c.rcConfD(read, dir)...)
	}
	for _, f := range files {
		if err := c.file(f); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// LoadFile reads one file in the form of rc.conf, such as nanobsd.conf. A missing file sets nothing.
func LoadFile(read conffile.Reader, file string) (*Conf, error) {
	c := newConf(read)
	return c, c.file(file)
}

// rcConfD returns the files of an rc.conf.d that rc.d/jail reads, and warns of jail_ variables in the
// ones that it does not.
func (c *Conf) rcConfD(read *conffile.Files, dir string) []string {
	names, _ := read.Glob(dir + "/*")
	var files []string
	for _, name := range names {
		found := []string{name}
		if read.IsDir(name) {
			found, _ = read.Glob(name + "/*")
		}
		if path.Base(name) == "jail" {
			files = append(files, found...)
			continue
		}
		for _, f := range found {
			c.warnUnread(f)
		}
	}
	return files
}

// warnUnread warns of jail_ variables that are set where nothing reads them: rc.conf.d/NAME is read only
// for the service NAME.
func (c *Conf) warnUnread(file string) {
	parsed, err := c.parse(file)
	if err != nil || parsed == nil {
		return
	}
	if names := touched(parsed); len(names) > 0 {
		c.warn(conffile.UnreadFile, conffile.At(file, 0), "move it to /etc/rc.conf or /etc/rc.conf.d/jail",
			"sets %s, but rc.d/jail does not read this file", strings.Join(names, ", "))
	}
}

// file evaluates one file. A missing file counts as empty.
func (c *Conf) file(name string) error {
	parsed, err := c.parse(name)
	if err != nil {
		return err
	}
	if parsed != nil {
		c.stmts(name, parsed.Stmts)
	}
	return nil
}
