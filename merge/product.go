package merge

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// Product is files that are made of another one, all paths below etc.
type Product struct {
	Source string
	Makes  []string
	// Make makes them where that needs no program of the system.
	Make func(source []byte) (map[string][]byte, error)
	// Command makes them from a copy of the source that stands alone in DIR, and leaves them there.
	Command []string
	ByHand  string // what an administrator runs instead, on the live ETC
}

// Products is the table: pwd_mkdb(8), cap_mkdb(1), newaliases(1).
var Products = []Product{
	{Source: "master.passwd", Makes: []string{"passwd"}, Make: makePasswd},
	{Source: "master.passwd", Makes: []string{"pwd.db", "spwd.db"}, Command: []string{"pwd_mkdb", "-p", "-d", "DIR", "DIR/master.passwd"}, ByHand: "pwd_mkdb -p -d ETC ETC/master.passwd"},
	{Source: "login.conf", Makes: []string{"login.conf.db"}, Command: []string{"cap_mkdb", "DIR/login.conf"}, ByHand: "cap_mkdb ETC/login.conf"},
	{Source: "mail/aliases", Makes: []string{"mail/aliases.db"}, ByHand: "newaliases"},
}

func makePasswd(master []byte) (map[string][]byte, error) {
	b, err := Passwd(master)
	return map[string][]byte{"passwd": b}, err
}

// Missing says why the products are not made, and what to run for a live etc.
func (p Product) Missing(err error, etc string) string {
	why := "no program here makes them"
	if err != nil && !errors.Is(err, exec.ErrNotFound) {
		why = err.Error()
	}
	return fmt.Sprintf("%s; run %s", why, p.Remedy(etc))
}

// Remedy is what an administrator runs to make the products in a live etc.
func (p Product) Remedy(etc string) string { return strings.ReplaceAll(p.ByHand, "ETC", etc) }
