package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/BurntSushi/toml"

	"cfgd/config/conffile"
	"cfgd/config/pattern"
)

// maxTomlFile is the size in bytes above which a cfgd.toml is refused: parsing a key takes time that
// grows with the square of its parts.
const maxTomlFile = 256 << 10

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

// tomlReader collects all errors of a file.
type tomlReader struct {
	file  string
	lines tomlLines
	errs  []*conffile.Error
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
	if len(data) > maxTomlFile {
		return nil, &conffile.Error{
			File:    name,
			Message: fmt.Sprintf("larger than %d KiB, which no cfgd.toml is", maxTomlFile>>10),
		}
	}
	var doc map[string]any
	if _, err := toml.Decode(string(data), &doc); err != nil {
		return nil, tomlError(name, string(data), err)
	}
	r := &tomlReader{file: name, lines: indexToml(string(data))}
	conf := r.read(doc)
	if err := conffile.Join(r.errs); err != nil {
		return nil, err
	}
	return conf, nil
}

// tomlError returns a syntax error with its line and column. They are counted from the offset, because
// the library's line is the next one if the error is at an end of line.
func tomlError(name, text string, err error) *conffile.Error {
	e := &conffile.Error{
		File:    name,
		Message: err.Error(),
		Fix:     "mend it: cfgd.toml(5) has an example",
		Err:     err,
	}
	pe, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return e
	}
	// -1 for a byte that opens the file and is refused
	before := text[:max(0, min(pe.Position.Start, len(text)))]
	e.Line, e.Message = 1+strings.Count(before, "\n"), strings.TrimSuffix(pe.Message, ".")
	e.Col = len(before) - strings.LastIndexByte(before, '\n')
	if strings.Contains(e.Message, "already been defined") {
		e.Fix = "write each table and key once"
	}
	return e
}

// fail records an error at a key.
func (r *tomlReader) fail(key []string, fix, format string, args ...any) {
	r.errs = append(r.errs, conffile.Errorf(r.at(key), fix, format, args...))
}

func (r *tomlReader) at(key []string) conffile.Origin {
	return conffile.At(r.file, r.lines.line(key))
}

// read checks the top of the document.
func (r *tomlReader) read(doc map[string]any) *tomlConf {
	c := &tomlConf{file: r.file, jails: map[string]*section{}}
	for _, key := range sorted(doc) {
		at := []string{key}
		switch key {
		case "defaults":
			c.defaults = r.section(at, doc[key])
		case "host":
			c.host = r.section(at, doc[key], "base", "cfg", "live")
		case "jail":
			r.jails(c, doc[key])
		case "prototype":
			r.prototypes(c, doc[key])
		case "path":
			r.rules(c, doc[key])
		case "checker":
			r.checkers(c, doc[key])
		default:
			r.unknown(at, []string{"defaults", "host", "jail", "prototype", "path", "checker"})
		}
	}
	return c
}

// section checks one table of settings, in which the named paths are allowed too.
func (r *tomlReader) section(at []string, v any, paths ...string) *section {
	s := &section{at: r.at(at), paths: map[string]conffile.Located{}}
	table, ok := r.table(at, v)
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
			s.health = r.text(full, table[key])
		default:
			r.unknown(full, allowed)
		}
	}
	return s
}

// setting checks one value of Settings.
func (r *tomlReader) setting(s *section, full []string, v any, check settingCheck) {
	apply, err := check(v)
	if err != nil {
		r.fail(full, settingFix(err), "%s: %v", dotted(full), err)
		return
	}
	s.settings = append(s.settings, setting{full[len(full)-1], r.at(full), apply})
}

// path checks an absolute path.
func (r *tomlReader) path(s *section, full []string, v any) {
	l := r.text(full, v)
	switch {
	case l.Value == "":
		return
	case !path.IsAbs(l.Value):
		r.fail(full, fmt.Sprintf("write it from the top, as %q", "/"+strings.TrimLeft(l.Value, "./")),
			"%s %q is a relative path", dotted(full), l.Value)
	default:
		if why, fix := oddPath(l.Value); why != "" {
			r.fail(full, fix, "%s %q %s", dotted(full), l.Value, why)
			return
		}
		s.paths[full[len(full)-1]] = conffile.Located{Value: path.Clean(l.Value), At: l.At}
	}
}

// text accepts a string that is not empty.
func (r *tomlReader) text(full []string, v any) conffile.Located {
	s, ok := v.(string)
	switch {
	case !ok:
		r.fail(full, `write it in quotes, as key = "value"`, "%s is %s, not a string", dotted(full),
			tomlKind(v))
	case s == "":
		r.fail(full, "give it a value or leave it out", "%s is empty", dotted(full))
	}
	return conffile.Located{Value: s, At: r.at(full)}
}

// table checks for a table.
func (r *tomlReader) table(at []string, v any) (map[string]any, bool) {
	t, ok := v.(map[string]any)
	if !ok {
		r.fail(at, "write ["+dotted(at)+"] and its keys below", "%s is %s, not a table", dotted(at),
			tomlKind(v))
	}
	return t, ok
}

// jails checks all of [jail.NAME].
func (r *tomlReader) jails(c *tomlConf, v any) {
	table, ok := r.table([]string{"jail"}, v)
	if !ok {
		return
	}
	for _, name := range sorted(table) {
		at := []string{"jail", name}
		if _, ok := table[name].(map[string]any); !ok {
			r.fail(at, "write [jail.NAME] with the jail's name", "%s stands in no jail's table", dotted(at))
			continue
		}
		if err := checkJailName(name); err != nil {
			r.fail(at, "give the jail's name as jail(8) knows it", "%v", err)
			continue
		}
		c.jails[name] = r.section(at, table[name], "root", "base", "cfg", "live")
	}
}

// checkJailName returns why a name cannot be a target's. It becomes part of file names, lines and
// addresses.
func checkJailName(name string) error {
	switch {
	case name == HostName:
		return fmt.Errorf("%q is the name of the machine itself, no jail's", name)
	case name == "", name[0] == '.', name[0] == '-', strings.ContainsAny(name, "/\\\"'*"),
		strings.ContainsFunc(name, func(r rune) bool {
			return unicode.IsControl(r) || unicode.IsSpace(r) || r == unicode.ReplacementChar
		}):
		return fmt.Errorf("%q cannot be a jail's name", name)
	}
	return nil
}

// prototypes checks all of [prototype.NAME].
func (r *tomlReader) prototypes(c *tomlConf, v any) {
	table, ok := r.table([]string{"prototype"}, v)
	if !ok {
		return
	}
	for _, name := range sorted(table) {
		at := []string{"prototype", name}
		if err := checkJailName(name); err != nil {
			r.fail(at, "give the prototype a plain name", "%v", err)
			continue
		}
		if keys, ok := r.table(at, table[name]); ok {
			c.protos = append(c.protos, r.prototype(at, name, keys))
		}
	}
}

func (r *tomlReader) prototype(at []string, name string, keys map[string]any) Prototype {
	p := Prototype{Name: name, Origin: map[string]conffile.Origin{"prototype": r.at(at)}}
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
			r.unknown(full, []string{"dataset", "root"})
			continue
		}
		p.Origin[key] = r.at(full)
	}
	return p
}

// dataset checks the name of a ZFS dataset: POOL/NAME, no snapshot.
func (r *tomlReader) dataset(full []string, v any) string {
	l := r.text(full, v)
	if l.Value != "" && (l.Value[0] == '/' || l.Value[0] == '-' || strings.ContainsAny(l.Value, "@# \t\n")) {
		r.fail(full, "write it as zfs list does, such as zpool/proto", "%s %q is no dataset", dotted(full),
			l.Value)
	}
	return l.Value
}

// rules checks all of [[path]].
func (r *tomlReader) rules(c *tomlConf, v any) {
	list, ok := tableList(v)
	if !ok {
		r.fail([]string{"path"}, "write [[path]] with two brackets", "path is %s, not an array of tables",
			tomlKind(v))
		return
	}
	for i, entry := range list {
		if rule, ok := r.rule([]string{"path", fmt.Sprint(i)}, entry); ok {
			c.rules = append(c.rules, rule)
		}
	}
}

// tableList accepts both [[path]] and path = [{…}, …].
func tableList(v any) ([]map[string]any, bool) {
	list, ok := v.([]map[string]any)
	values, inline := v.([]any)
	for _, entry := range values {
		table, isTable := entry.(map[string]any)
		inline = inline && isTable
		list = append(list, table)
	}
	return list, ok || inline
}

func (r *tomlReader) rule(at []string, entry map[string]any) (ClassRule, bool) {
	before := len(r.errs)
	var match, class conffile.Located
	for _, key := range sorted(entry) {
		full := append(slices.Clone(at), key)
		switch key {
		case "match":
			match = r.text(full, entry[key])
		case "class":
			class = r.text(full, entry[key])
		default:
			r.unknown(full, []string{"match", "class"})
		}
	}
	for _, key := range []string{"match", "class"} {
		if _, ok := entry[key]; !ok && len(r.errs) == before {
			r.fail(at, "add "+key+" = …", "[[path]] has no %s", key)
		}
	}
	if len(r.errs) > before {
		return ClassRule{}, false
	}
	return r.checkRule(at, match, class)
}

func (r *tomlReader) checkRule(at []string, match, class conffile.Located) (ClassRule, bool) {
	p, ok := r.pattern(match)
	if !ok {
		return ClassRule{}, false
	}
	if !slices.Contains(allClasses, Class(class.Value)) {
		r.errs = append(r.errs, conffile.Errorf(class.At,
			"write one of persist, secret, volatile, ignore, report, derived", "class %q is unknown",
			class.Value))
		return ClassRule{}, false
	}
	return ClassRule{
		Pattern: p,
		Class:   Class(class.Value),
		Reason:  "set at " + r.at(at).String(),
		Origin:  r.at(at),
	}, true
}

// pattern checks a pattern. A leading /etc/ is allowed, as on the command line.
func (r *tomlReader) pattern(match conffile.Located) (string, bool) {
	p := match.Value
	if below, ok := strings.CutPrefix(p, "/etc/"); ok {
		p = "/" + below
	}
	if err := pattern.Check(p); err != nil {
		r.errs = append(r.errs, conffile.Errorf(match.At,
			"write a pattern such as local/ssl/private/** or *.key", "%v",
			err))
		return "", false
	}
	return p, true
}

// unknown reports an unknown key, with the most similar known one.
func (r *tomlReader) unknown(full, known []string) {
	key := full[len(full)-1]
	fix := "known are " + strings.Join(known, ", ")
	if near := nearest(key, known); near != "" {
		fix = fmt.Sprintf("did you mean %s?", near)
	}
	r.fail(full, fix, "%s is not known", dotted(full))
}

// dotted formats a key for people, without the numbers of array entries.
func dotted(key []string) string {
	if (key[0] == "path" || key[0] == "checker") && len(key) > 2 {
		key = []string{key[0], key[2]}
	}
	return toml.Key(key).String()
}

// tomlKind returns a value's type with its article.
func tomlKind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case map[string]any:
		return "a table"
	case []any, []map[string]any:
		return "an array"
	}
	return "a date or time"
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// nearest returns the known word within two edits of a mistyped one, or "".
func nearest(word string, known []string) string {
	best, at := "", 3
	for _, k := range known {
		if d := editDistance(word, k); d < at {
			best, at = k, d
		}
	}
	return best
}

// editDistance returns the Levenshtein distance.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
