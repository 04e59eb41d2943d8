package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/jailconf"
	"cfgd/config/rcconf"
)

// confJails finds the jails that jail.conf, jail.NAME.conf and jail.conf.d define.
type confJails struct {
	conffile.Findings
	rc   *rcconf.Conf
	read *conffile.Files
	list *jailList
	defs []*jailDef
	seen map[string]conffile.Origin // the first block of each name
	// hidden are the jails whose names others had before. jail(8) may be told to start them all the same.
	hidden []*jailDef
}

// jailConfFile is a file in which rc.d/jail looks for jails.
type jailConfFile struct {
	name string
	only string // the jail that rc.d/jail starts from this file; "" for the common jail.conf
	// named is where jail_NAME_conf names it
	named conffile.Origin
}

// files returns the files in which rc.d/jail looks for jails: those of a single jail first, the
// common one last.
func (c *confJails) files() []jailConfFile {
	var files []jailConfFile
	for _, name := range c.list.names {
		if file, at, ok := c.rc.Get("jail_" + jailVar(name) + "_conf"); ok {
			files = append(files, jailConfFile{rooted(file), name, at})
		}
	}
	for _, form := range [][2]string{{"/etc/jail.", ".conf"}, {"/etc/jail.conf.d/", ".conf"}} {
		names, err := c.read.Glob(form[0] + "*" + form[1])
		if err != nil {
			c.Add(conffile.ProblemOf(err, path.Dir(form[0]), "", "mend it"))
		}
		for _, n := range names {
			only := strings.TrimSuffix(strings.TrimPrefix(n, form[0]), form[1])
			files = append(files, jailConfFile{name: n, only: only})
		}
	}
	common, _, ok := c.rc.Get("jail_conf")
	if !ok {
		common = "/etc/jail.conf"
	}
	return append(files, jailConfFile{name: rooted(common)})
}

// rooted makes a name absolute: rc(8) runs in the root directory.
func rooted(name string) string {
	if path.IsAbs(name) {
		return name
	}
	return "/" + name
}

// find reads every jail.conf. The first file that defines a jail counts, as for rc.d/jail. A
// malformed common jail.conf is an error; a malformed file of a single jail is that jail's problem.
func (c *confJails) find() ([]*jailDef, error) {
	files := c.files()
	own, common := files[:len(files)-1], files[len(files)-1]
	blocks, problems, err := readJailConf(c.read, common)
	if err != nil {
		return nil, conffile.FileError(common.name, err)
	}
	c.warnGone(files)
	included := map[string]bool{}
	for _, b := range blocks {
		included[b.Origin.File] = true
	}
	c.seen = map[string]conffile.Origin{}
	for _, f := range own {
		if included[f.name] && f.byInclude(c.list) {
			continue
		}
		blocks, problems, err := readJailConf(c.read, f)
		if err != nil {
			c.Add(conffile.ProblemOf(err, f.name, f.only, ""))
			continue
		}
		c.add(blocks, problems)
		c.warnAlone(f, common.name)
	}
	c.add(blocks, problems)
	return c.defs, nil
}

// warnGone reports the files that are not there although a variable or a link names them: what the link leads
// to may only be unmounted.
func (c *confJails) warnGone(files []jailConfFile) {
	for _, f := range files {
		if f.named != (conffile.Origin{}) && !c.read.Exists(f.name) || c.read.IsLink(f.name) &&
			!c.read.Exists(f.name) {
			at := cmp.Or(f.named, conffile.At(f.name, 0))
			c.Add(conffile.Refuse(conffile.BadFile, at, f.only, "write "+f.name+" or mend the name",
				"%s is not there", f.name))
		}
	}
}

// byInclude reports whether rc.d/jail starts a jail from the common jail.conf that includes its file, and
// not from the file alone, which may lack the defaults. That is so if jail_list does not name the jail,
// and always for jail.conf.d.
func (f jailConfFile) byInclude(list *jailList) bool {
	return strings.HasPrefix(f.name, "/etc/jail.conf.d/") || !list.has[f.only]
}

// warnAlone warns of a file that rc.d/jail reads only for one jail, if it starts all jails from the
// common one.
func (c *confJails) warnAlone(f jailConfFile, common string) {
	if len(c.list.names) == 0 {
		c.Add(conffile.Warn(conffile.NotStarted, conffile.Origin{File: f.name}, f.only,
			fmt.Sprintf("write .include \"%s\"; in %s, or jail_list in rc.conf", f.name, common),
			"jail_list is not set, and %s does not include this file: its jail will not be started at boot",
			common))
	}
}

// readJailConf reads a file. A missing file has no jails.
func readJailConf(read *conffile.Files, f jailConfFile) ([]jailconf.Block, []conffile.Problem, error) {
	blocks, problems, err := jailconf.Load(read, f.name)
	if errors.Is(err, fs.ErrNotExist) && !read.Exists(f.name) {
		return nil, nil, nil
	}
	return blocks, problems, err
}

// add adds the jails of one file whose names are new.
func (c *confJails) add(blocks []jailconf.Block, problems []conffile.Problem) {
	c.Add(problems...)
	for _, b := range blocks {
		if first, dup := c.seen[b.Name]; dup {
			if b.Origin != first {
				c.hidden = append(c.hidden, newJailDef(b))
			}
			c.warnTwice(b, first)
			continue
		}
		c.seen[b.Name] = b.Origin
		c.defs = append(c.defs, newJailDef(b))
	}
}

// warnTwice warns that a jail is defined in two files. The same block read twice, by .include and by its
// own name, is no mistake.
func (c *confJails) warnTwice(b jailconf.Block, first conffile.Origin) {
	if b.Origin != first {
		c.Add(conffile.Warn(conffile.DefinedTwice, b.Origin, b.Name,
			"remove one of the two",
			"jail %s is defined at %s already, which rc.d/jail takes", b.Name, first))
	}
}

// newJailDef makes a jailDef from a block of jail.conf.
func newJailDef(b jailconf.Block) *jailDef {
	d := &jailDef{
		name:   b.Name,
		def:    definitionOf(b),
		origin: map[string]conffile.Origin{"jail": b.Origin},
		hidden: b.Hidden,
	}
	if p := b.Values("path"); len(p) > 0 {
		d.root, d.origin["root"] = p[len(p)-1].Value, p[len(p)-1].At
	}
	for _, f := range b.Values("mount.fstab") {
		d.fstabs = append(d.fstabs, f)
		d.origin["fstab"] = f.At
	}
	d.params = b.Values("mount")
	d.prestart, d.poststop = b.Values("exec.prestart"), b.Values("exec.poststop")
	d.wrong = map[string][]conffile.Located{}
	for when := range wrongPlace {
		d.wrong[when] = b.Values("exec." + when)
	}
	for key, list := range map[string][]conffile.Located{"prestart": d.prestart, "poststop": d.poststop} {
		if len(list) > 0 {
			d.origin[key] = list[len(list)-1].At
		}
	}
	return d
}

// definitionOf returns the definition of a jail in jail.conf.
func definitionOf(b jailconf.Block) Definition {
	d := Definition{Form: FormJailConf}
	for _, name := range sorted(b.Params) {
		d.Params = append(d.Params, Param{name, slices.Clone(b.Params[name].Values)})
	}
	return d
}
