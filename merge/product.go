package merge

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Product is a set of files made from another file. All paths are below etc.
type Product struct {
	Source string
	Makes  []string
	// Make makes them, if no program of the system is needed.
	Make func(source []byte) (map[string][]byte, error)
	// Command makes them from a copy of the source that is alone in DIR, and leaves them there.
	Command []string
	ByHand  string // what an administrator can run instead, on the live ETC
}

// Products lists all products: pwd_mkdb(8), cap_mkdb(1), newaliases(1).
var Products = []Product{
	{Source: "master.passwd", Makes: []string{"passwd"}, Make: makePasswd},
	{
		Source:  "master.passwd",
		Makes:   []string{"pwd.db", "spwd.db"},
		Command: []string{"pwd_mkdb", "-p", "-d", "DIR", "DIR/master.passwd"},
		ByHand:  "pwd_mkdb -p -d ETC ETC/master.passwd",
	},
	{
		Source:  "login.conf",
		Makes:   []string{"login.conf.db"},
		Command: []string{"cap_mkdb", "DIR/login.conf"},
		ByHand:  "cap_mkdb ETC/login.conf",
	},
	{Source: "mail/aliases", Makes: []string{"mail/aliases.db"}, ByHand: "newaliases"},
}

func makePasswd(master []byte) (map[string][]byte, error) {
	b, err := Passwd(master)
	return map[string][]byte{"passwd": b}, err
}

// Missing says why the products were not made, and what to run for a live etc.
func (p Product) Missing(err error, etc string) string {
	why := "no program here makes them"
	if err != nil && !errors.Is(err, exec.ErrNotFound) {
		why = err.Error()
	}
	return fmt.Sprintf("%s; run %s", why, p.Remedy(etc))
}

// Remedy returns the command that an administrator runs to make the products in a live etc.
func (p Product) Remedy(etc string) string { return strings.ReplaceAll(p.ByHand, "ETC", etc) }
