package tests

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// form is a way to call a command that does not work on every system.
type form struct {
	match *regexp.Regexp
	why   string
	bad   string // an example
	good  string // one that must not match
}

func forms(list [][4]string) (out []form) {
	for _, l := range list {
		out = append(out, form{regexp.MustCompile(l[0]), l[1], l[2], l[3]})
	}
	return out
}

// gnuForms fail on FreeBSD 13.2, or do something else there. Each was looked up in the manual page or the
// source.
var gnuForms = forms([][4]string{
	{`\bsed (-[a-zE]+ )*-i +('[^']|"[^"]|[^'" ])`, "sed -i takes the suffix of a copy as its next word",
		`sed -i s/a/b/ f`, `sed -i '' s/a/b/ f`},
	{`\bsed (-[a-zE]+ )*'?"?[0-9$]*[aci] ?[^\\ ';"]`, "the text of a, c and i stands on the next line",
		`sed '1i text' f`, `sed 's/a/b/' f`},
	{`\b(sed|grep) [^|;]*\\[+?]`, `\+ and \? are GNU's`, `sed 's/a\+/b/' f`, `sed -E 's/a+/b/' f`},
	{`\bsed [^;]*\\\|[^;]*`, `\| is GNU's`, `sed 's/a\|b/c/' f`, `sed 's/a/b/' f | wc -l`},
	{`\bstat (-[a-zA-Z]+ )*(-c|--)`, "stat -c is GNU's", `stat -c %a f`, `stat -f %Lp f`},
	{`\bdate (-u )?(-d|--date|-I)\b`, "date -d sets the kernel's zone or is refused",
		`date -d yesterday`, `date -u +%s`},
	{`\btouch (-[a-z] )*-d +['"]?[^'" 0-9]`, "touch -d takes only YYYY-MM-DDThh:mm:SS",
		`touch -d yesterday f`, `touch -d 2001-01-01T00:00:00 f`},
	{`\bgrep (-[a-zA-Z]+ )*-[a-zA-Z]*P`, "there is no grep -P", `grep -oP x f`, `grep -E x f`},
	{`\bxargs (-[a-zA-Z0-9]+ )*(-d|-a|--)`, "there is no xargs -d or -a", `xargs -d '\n' rm`, `xargs -0 rm`},
	{`\b(tac|setpriv|nproc|shuf|pidof|getfattr|setfattr|getfacl -R|chattr|lsattr|` +
		`losetup|mke2fs|findmnt|unshare|flock) `,
		"there is no such command", `tac f`, `tail -r f`},
	{`\bfind [^|;]*-(printf|executable|readable|quit\b.*-quit)`, "there is no find -printf",
		`find . -printf %p`, `find . -print`},
	{`\bfind +-`, "find needs a directory", `find -name x`, `find . -name x`},
	{`\b(ls|cp|mv|rm|mkdir|ln|touch|chmod|chown|sort|du|df|cut|wc|tr|` +
		`date|uname|ps|mktemp|readlink) (-[a-zA-Z0-9]+ )*--[a-z]`,
		"there are no long options", `rm --force f`, `rm -f -- f`},
	{`\bls (-[a-zA-Z0-9]+ )*--( |$)|\bls -[a-zA-Z]*[vX]\b`, "GNU's ls alone has it", `ls -v`, `ls -l`},
	{`\bdu (-[a-zA-Z0-9]+ )*-[a-z]*b\b`, "there is no du -b", `du -sb .`, `du -sk .`},
	{`\b(ln|mv|cp) (-[a-zA-Z]+ )*-[a-zA-Z]*T\b`, "there is no -T", `ln -sfT a b`, `ln -sfh a b`},
	{`\binstall (-[a-z]+ )*-[a-z]*D[a-z]* `, "install -D takes a directory",
		`install -D f /a/b`, `install -d /a`},
	{`\b(chmod|chown) (-[a-zA-Z]+ )*-[a-zA-Z]*c`, "there is no -c", `chmod -c 600 f`, `chmod 600 f`},
	{`\b(head|tail) (-n ?)-[0-9]`, "head -n takes no negative number", `head -n -1 f`, `head -n 1 f`},
	{`\becho -[neE]*e`, "echo prints -e", `echo -e 'a\n'`, `printf 'a\n'`},
	{`\btar [^|;]*--(transform|xform|owner|group|sort|mtime|one-file-system|wildcards|no-recursion)`,
		"bsdtar has no such option",
		`tar --transform s,a,b, -xf x`, `tar --exclude x -cf x .`},
	{`(^|[ "'=` + "`" + `])/bin/(true|false|bash|env|install|id|stat|tar|gzip|sed|grep|find)\b`,
		"it is in /usr/bin, or in /usr/local/bin",
		`health = "/bin/true"`, `health = "/usr/bin/true"`},
	{`^#!.*\bbash|(^|[ ;])\[\[ |\$'[^']*\\`, "sh is not bash", `[[ -e f ]]`, `[ -e f ]`},
	{`(^|[ '"=])/proc/`, "proc(5) is not mounted", `ls /proc/self/fd`, `mount -t procfs proc /jail/v/proc`},
	{`\bpatch (-[a-zA-DF-Z0-9]+ )*-p1`, "without -E an empty file is left for one that was deleted",
		`patch -p1 < d`, `patch -E -p1 < d`},
	{`\bsha(256|512|1)sum\b`, "FreeBSD before 14 has sha256(1) only", `sha256sum f`, `sha256 -q f`},
	{`(^|[;&|(] *)(useradd|userdel|usermod|groupadd)\b`, "it is pw(8)", `useradd joe`, `pw useradd joe`},
	{`\bmount (-[a-z]+ )*--|\bumount -l\b`, "there is no bind mount and no lazy one",
		`mount --bind a b`, `mount -t nullfs a b`},
	{`\bsystemctl\b|\bapt-get\b`, "it is another system's", `systemctl start cfgd`, `service cfgd start`},
})

// bsdForms work only on FreeBSD. Files for both systems may have neither kind.
var bsdForms = forms([][4]string{
	{`\bsed (-[a-zE]+ )*-i +(''|"")`, "GNU's sed takes '' for the script",
		`sed -i '' s/a/b/ f`, `sed s/a/b/ f`},
	{`\bstat (-[a-zA-Z]+ )*-f`, "GNU's stat -f is of the filesystem", `stat -f %Lp f`, `stat f`},
	{`\bdate (-[a-z] )*-[jv]`, "date -j and -v are FreeBSD's", `date -j -f %s 0`, `date +%s`},
	{`(^|[^-])\bsha256 -`, "the command is FreeBSD's", `sha256 -q f`, `--sha256 HEX`},
})

// shownFor tells where a file is used: on both systems, only on FreeBSD, or only on Linux.
func shownFor(name string) string {
	switch {
	case name == "contrib/systemd/cfgd.service":
		return "linux"
	case strings.HasPrefix(name, "contrib/"), strings.HasPrefix(name, "tests/freebsd/"):
		return "freebsd"
	}
	return "both"
}

// allowed has lines that a form matches although they are right, and the reason.
var allowed = map[string]string{
	"	cd dist && { sha256sum cfgd-* >SHA256 2>/dev/null || sha256 -r cfgd-* >SHA256; }": // in Makefile
	"it takes the one that is there",
}

// Commands in README, the manual and the samples work on FreeBSD, and also on Linux if they are meant for
// both.
func TestNothingIsGNUs(t *testing.T) {
	t.Parallel()
	for _, f := range slices.Concat(gnuForms, bsdForms) {
		if !f.match.MatchString(f.bad) || f.match.MatchString(f.good) {
			t.Errorf("%s: does not tell %q from %q", f.match, f.bad, f.good)
		}
	}
	n := 0
	for _, root := range []string{"README.md", "CONTRIBUTING.md", "Makefile", "docs", "man", "contrib",
		"tests/scripts",
		"tests/freebsd",
		"cmd/cfgd/cfgd.toml.sample", "cmd/cfgd/machine"} {
		err := filepath.WalkDir("../"+root, func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(p, ".svg") {
				return err
			}
			n++
			name := strings.TrimPrefix(p, "../")
			b, err := os.ReadFile(p)
			for i, line := range strings.Split(string(b), "\n") {
				for _, why := range foreign(line, shownFor(name)) {
					t.Errorf("%s:%d: %s: %s", name, i+1, why, line)
				}
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if n < 50 {
		t.Errorf("only %d files were read", n)
	}
}

// foreign tells what is wrong with a line that is used on a system.
func foreign(line, system string) (why []string) {
	if system == "linux" || allowed[line] != "" {
		return nil
	}
	list := gnuForms
	if system == "both" {
		list = slices.Concat(gnuForms, bsdForms)
	}
	for _, f := range list {
		if f.match.MatchString(line) {
			why = append(why, f.why)
		}
	}
	return why
}
