package config

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"cfgd/config/conffile"
	"cfgd/config/tomldoc"
)

// tomlConf is cfgd.toml after all its keys were checked one by one.
type tomlConf struct {
	file     string // "" if there is none
	defaults *section
	host     *section
	jails    map[string]*section
	protos   []Prototype
	rules    []ClassRule
	checkers []Checker
}

// section is the content of [defaults], [host] or one [jail.NAME].
type section struct {
	at       conffile.Origin
	paths    map[string]conffile.Located // root, base, cfg, live: absolute and clean
	health   conffile.Located
	settings []setting
}

// setting is one checked value of Settings.
type setting struct {
	key   string
	at    conffile.Origin
	apply func(*Settings)
}

// path returns a path of the section, which may be nil.
func (s *section) path(key string) (conffile.Located, bool) {
	if s == nil {
		return conffile.Located{}, false
	}
	l, ok := s.paths[key]
	return l, ok
}

// loadToml reads the file of --config, a path of the shell, or else /usr/local/etc/cfgd.toml below the
// root if it exists.
func loadToml(read *conffile.Files, file string) (*tomlConf, error) {
	name, data, err := file, []byte(nil), error(nil)
	if file != "" {
		data, err = conffile.ReadPlain(file)
	} else {
		name = DefaultFile
		data, err = read.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return &tomlConf{}, nil
		}
	}
	if err != nil {
		return nil, conffile.FileError(name, err)
	}
	return parseToml(name, data)
}

// parseToml parses and checks a whole cfgd.toml, and returns it or all its errors.
func parseToml(name string, data []byte) (*tomlConf, error) {
	doc, err := tomldoc.Parse(name, data)
	if err != nil {
		return nil, err
	}
	doc.Arrays = []string{"path", "checker"}
	conf := tomlReader{doc}.read()
	if err := doc.Err(); err != nil {
		return nil, err
	}
	return conf, nil
}

// read checks the top of the document.
func (r tomlReader) read() *tomlConf {
	c := &tomlConf{file: r.File}
	for _, key := range sorted(r.Top) {
		at := []string{key}
		switch key {
		case "defaults":
			c.defaults = r.section(at, r.Top[key])
		case "host":
			c.host = r.section(at, r.Top[key], "base", "cfg", "live")
		case "jail":
			c.jails = r.jails(r.Top[key])
		case "prototype":
			c.protos = r.prototypes(r.Top[key])
		case "path":
			c.rules = r.rules(r.Top[key])
		case "checker":
			c.checkers = r.checkers(r.Top[key])
		default:
			r.Unknown(at, []string{"defaults", "host", "jail", "prototype", "path", "checker"})
		}
	}
	return c
}

// section checks one table of settings, in which the named paths are allowed too.
func (r tomlReader) section(at []string, v any, paths ...string) *section {
	s := &section{at: r.At(at), paths: map[string]conffile.Located{}}
	table, ok := r.Table(at, v)
	if !ok {
		return s
	}
	allowed := slices.Concat(paths, sorted(settingKeys))
	jail := len(at) == 2
	host := !jail && at[0] == HostName
	if jail || host {
		allowed = append(allowed, "health")
	}
	if host {
		allowed = append(allowed, "trial")
	}
	for _, key := range sorted(table) {
		full := append(slices.Clone(at), key)
		check, isSetting := settingKeys[key]
		switch {
		case slices.Contains(paths, key):
			r.path(s, full, table[key])
		case isSetting:
			r.setting(s, full, table[key], check)
		case host && key == "trial":
			r.setting(s, full, table[key], duration(func(s *Settings, d time.Duration) { s.Trial = d }))
		case (jail || host) && key == "health":
			s.health = r.Text(full, table[key])
		default:
			r.Unknown(full, allowed)
		}
	}
	return s
}

// setting checks one value of Settings.
func (r tomlReader) setting(s *section, full []string, v any, check settingCheck) {
	apply, err := check(v)
	if err != nil {
		r.Fail(full, settingFix(err), "%s: %v", r.Dotted(full), err)
		return
	}
	s.settings = append(s.settings, setting{full[len(full)-1], r.At(full), apply})
}

// path checks an absolute path.
func (r tomlReader) path(s *section, full []string, v any) {
	l := r.Text(full, v)
	switch {
	case l.Value == "":
		return
	case !path.IsAbs(l.Value):
		r.Fail(full, fmt.Sprintf("write it from the top, as %q", "/"+strings.TrimLeft(l.Value, "./")),
			"%s %q is a relative path", r.Dotted(full), l.Value)
	default:
		if why, fix := oddPath(l.Value); why != "" {
			r.Fail(full, fix, "%s %q %s", r.Dotted(full), l.Value, why)
			return
		}
		s.paths[full[len(full)-1]] = conffile.Located{Value: path.Clean(l.Value), At: l.At}
	}
}

// jails checks all of [jail.NAME].
func (r tomlReader) jails(v any) map[string]*section {
	jails := map[string]*section{}
	table, ok := r.Table([]string{"jail"}, v)
	if !ok {
		return jails
	}
	for _, name := range sorted(table) {
		at := []string{"jail", name}
		if _, ok := table[name].(map[string]any); !ok {
			r.Fail(at, "write [jail.NAME] with the jail's name", "%s stands in no jail's table", r.Dotted(at))
			continue
		}
		if err := checkJailName(name); err != nil {
			r.Fail(at, "give the jail's name as jail(8) knows it", "%v", err)
			continue
		}
		jails[name] = r.section(at, table[name], "root", "base", "cfg", "live")
	}
	return jails
}

// prototypes checks all of [prototype.NAME].
func (r tomlReader) prototypes(v any) (all []Prototype) {
	table, ok := r.Table([]string{"prototype"}, v)
	if !ok {
		return nil
	}
	for _, name := range sorted(table) {
		at := []string{"prototype", name}
		if err := checkJailName(name); err != nil {
			r.Fail(at, "give the prototype a plain name", "%v", err)
			continue
		}
		if keys, ok := r.Table(at, table[name]); ok {
			all = append(all, r.prototype(at, name, keys))
		}
	}
	return all
}

func (r tomlReader) prototype(at []string, name string, keys map[string]any) Prototype {
	p := Prototype{Name: name, Origin: map[string]conffile.Origin{"prototype": r.At(at)}}
	s := &section{paths: map[string]conffile.Located{}}
	for _, key := range sorted(keys) {
		full := append(slices.Clone(at), key)
		switch key {
		case "root":
			r.path(s, full, keys[key])
			p.Root = s.paths["root"].Value
		case "dataset":
			p.Dataset = r.dataset(full, keys[key])
		default:
			r.Unknown(full, []string{"dataset", "root"})
			continue
		}
		p.Origin[key] = r.At(full)
	}
	return p
}

// dataset checks the name of a ZFS dataset: POOL/NAME, no snapshot.
func (r tomlReader) dataset(full []string, v any) string {
	l := r.Text(full, v)
	if l.Value != "" && (l.Value[0] == '/' || l.Value[0] == '-' || strings.ContainsAny(l.Value, "@# \t\n")) {
		r.Fail(full, "write it as zfs list does, such as zpool/proto", "%s %q is no dataset", r.Dotted(full),
			l.Value)
	}
	return l.Value
}
