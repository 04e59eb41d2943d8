package config

import (
	"slices"
	"strings"

	"cfgd/config/conffile"
	"cfgd/config/pattern"
)

// Class is what cfgd does with a changed path.
type Class string

// The classes of paths.
const (
	Persist  Class = "persist"  // saved; the default
	Secret   Class = "secret"   // saved, its contents never shown
	Derived  Class = "derived"  // saved, hidden in diffs, rebuilt from its source
	Volatile Class = "volatile" // neither saved nor reported
	Ignore   Class = "ignore"   // editors' temporaries and locks: as if they were not there
	Report   Class = "report"   // not saved, but listed
)

// allClasses are the classes that cfgd.toml may name.
var allClasses = []Class{Persist, Secret, Volatile, Ignore, Report, Derived}

// ClassRule is one line of the table of classes.
//
// Pattern is one of doublestar's (*, ?, [a-z], {a,b}, ** across directories) on the path relative to etc.
// As in gitignore(5), a pattern without a slash matches a name at any depth, and one with a slash is
// anchored at etc; a leading slash only anchors. A pattern of cfgd.toml that matches a directory holds
// for all below it.
type ClassRule struct {
	Pattern string
	Class   Class
	Secret  bool            // contents are never shown, whatever the class; implied by class secret
	Reason  string          // why, for cfgd check
	Origin  conffile.Origin // of a [[path]]; the zero Origin is the built-in table
}

// Classes maps every path to its class; see ClassRule for the patterns and builtinRules for the table.
// The zero value and nil have only the built-in table. It does not change after Load and is safe for
// concurrent use.
type Classes struct {
	user []ClassRule
	set  *pattern.Table // of user
}

// defaultReason is the reason if no rule matched.
const defaultReason = "nothing else is said about it"

var builtinSet = pattern.Compile(patternsOf(builtinRules), false)

// newClasses puts the administrator's rules before the built-in ones; their patterns have been checked.
func newClasses(user []ClassRule) *Classes {
	return &Classes{user: user, set: pattern.Compile(patternsOf(user), true)}
}

func patternsOf(rules []ClassRule) []string {
	patterns := make([]string, len(rules))
	for i, r := range rules {
		patterns[i] = r.Pattern
	}
	return patterns
}

// Of returns the class of a path relative to etc and the reason of the rule that decided.
func (c *Classes) Of(name string) (Class, string) {
	if c != nil && c.set != nil {
		if i := c.set.First(name); i >= 0 {
			return c.user[i].Class, c.user[i].Reason
		}
	}
	if i := builtinSet.First(name); i >= 0 {
		return builtinRules[i].Class, builtinRules[i].Reason
	}
	return Persist, defaultReason
}

// Secret reports whether the contents of a path must not be shown. A [[path]] of class persist makes a
// built-in secret public; one of another class only changes how it is saved. Everything below a directory
// with a secret's name is secret too, and so is a path with the name of a directory of secrets: somebody
// may have moved one into the other.
func (c *Classes) Secret(name string) bool {
	if c != nil && c.set != nil {
		if i := c.set.First(name); i >= 0 {
			switch c.user[i].Class {
			case Secret:
				return true
			case Persist:
				return false
			}
		}
		if i := c.set.First(name + anyName); i >= 0 && c.user[i].Class == Secret {
			return true
		}
	}
	if secretRule(builtinSet.First(name + anyName)) {
		return true
	}
	for ; name != ""; name = name[:max(strings.LastIndexByte(name, '/'), 0)] {
		if secretRule(builtinSet.First(name)) {
			return true
		}
	}
	return false
}

// anyName stands for a name below a directory that no rule matches by itself.
const anyName = "/\x01"

func secretRule(i int) bool {
	return i >= 0 && (builtinRules[i].Secret || builtinRules[i].Class == Secret)
}

// Table returns all rules in the order in which they are tried, for cfgd check.
func (c *Classes) Table() []ClassRule {
	if c == nil {
		return slices.Clone(builtinRules)
	}
	return slices.Concat(c.user, builtinRules)
}

// Equal reports whether two tables give the same results.
func (c *Classes) Equal(o *Classes) bool { return slices.Equal(c.Table(), o.Table()) }

// builtinRules is the table of classes that needs no configuration: the first that matches wins, after
// the administrator's own [[path]]. A pattern without a slash matches a name at any depth; one with a
// slash is anchored at etc, as in gitignore(5). What no line matches is persist: a file is never left
// unsaved because it looks odd.
//
// Ignoring must not lose real configuration: *.lock, *.bak, *.orig, *.tmp and *.pid are saved on purpose.
var builtinRules = []ClassRule{
	// cfgd's and other programs' temporaries, first: vipw(8)'s copy of master.passwd is not even a secret
	// to save.
	{Pattern: ".cfgd.*", Class: Ignore, Reason: "cfgd's own temporary"},
	{Pattern: "/.cfgd/**", Class: Ignore, Reason: "the copy of cfg's store that rc.initdiskless makes"},
	{Pattern: "/pw.??????", Class: Ignore, Secret: true, Reason: "vipw(8)'s and pw(8)'s temporary"},
	{Pattern: "/pw.??????.orig", Class: Ignore, Secret: true, Reason: "pwd_mkdb(8)'s temporary"},
	{Pattern: "/pwd.db.tmp", Class: Ignore, Reason: "pwd_mkdb(8)'s temporary"},
	{Pattern: "/spwd.db.tmp", Class: Ignore, Secret: true, Reason: "pwd_mkdb(8)'s temporary"},
	{Pattern: "/login.conf.db.tmp", Class: Ignore, Reason: "cap_mkdb(1)'s temporary"},
	{Pattern: "/services.db.tmp", Class: Ignore, Reason: "services_mkdb(8)'s temporary"},
	{Pattern: "sudoers.tmp", Class: Ignore, Reason: "visudo(8)'s temporary and lock"},
	{Pattern: "/.pwd.lock", Class: Ignore, Reason: "lock of the password files"},
	{Pattern: ".*.sw[a-px]", Class: Ignore, Secret: true, Reason: "vim's swap file"},
	{Pattern: "4913", Class: Ignore, Reason: "vim's test whether a directory can be written"},
	{Pattern: "*~", Class: Ignore, Secret: true, Reason: "editor's backup"},
	{Pattern: "#*#", Class: Ignore, Secret: true, Reason: "emacs' autosave"},
	{Pattern: ".#*", Class: Ignore, Reason: "emacs' lock"},
	{Pattern: ".~lock.*#", Class: Ignore, Reason: "office program's lock"},
	{Pattern: ".!*!*", Class: Ignore, Secret: true, Reason: "sed(1) -i's temporary"},
	{Pattern: ".nfs*", Class: Ignore, Reason: "file removed while open over NFS"},

	// Derived before secret: both hold the first of them.
	{Pattern: "/spwd.db", Class: Derived, Secret: true, Reason: "pwd_mkdb(8) makes it from master.passwd"},
	{Pattern: "/pwd.db", Class: Derived, Reason: "pwd_mkdb(8) makes it from master.passwd"},
	{Pattern: "/login.conf.db", Class: Derived, Reason: "cap_mkdb(1) makes it from login.conf"},
	{Pattern: "/aliases.db", Class: Derived, Reason: "newaliases(1) makes it from aliases"},
	{Pattern: "/mail/aliases.db", Class: Derived, Reason: "newaliases(1) makes it from mail/aliases"},
	{Pattern: "/services.db", Class: Derived, Reason: "services_mkdb(8) makes it from services"},

	{Pattern: "/motd", Class: Volatile, Reason: "rc.d/motd rewrote it at every start before FreeBSD 13"},
	{Pattern: "/dumpdates", Class: Volatile, Reason: "dump(8)'s record of its own runs"},

	// Not every secret has a name that shows it; these do. The rule for a public key beside a secret
	// comes first.
	{Pattern: "ssh_host_*.pub", Class: Persist, Reason: "public key"},
	{Pattern: "ssh_host_*key*", Class: Secret, Reason: "ssh host key"},
	{Pattern: "id_*.pub", Class: Persist, Reason: "public key"},
	{Pattern: "id_{rsa,dsa,ecdsa,ecdsa_sk,ed25519,ed25519_sk}", Class: Secret, Reason: "ssh key"},
	{Pattern: "master.passwd*", Class: Secret, Reason: "password hashes"},
	{Pattern: "spwd.db*", Class: Secret, Reason: "password hashes"},
	{Pattern: "{shadow,gshadow}{,-}", Class: Secret, Reason: "password hashes"},
	{Pattern: "opie{keys,access}", Class: Secret, Reason: "one-time passwords"},
	{Pattern: "*.[kK][eE][yY]", Class: Secret, Reason: "key"},
	{Pattern: "*.[kK][eE][yY].*", Class: Secret, Reason: "copy of a key"},
	{Pattern: "*.keys", Class: Secret, Reason: "keys, such as ntp.keys"},
	{Pattern: "*-key.pem*", Class: Secret, Reason: "key"},
	{Pattern: "key.pem*", Class: Secret, Reason: "key"},
	{Pattern: "privkey*.pem*", Class: Secret, Reason: "key"},
	{Pattern: "*.{p12,pfx,jks}", Class: Secret, Reason: "key store"},
	{Pattern: "local/ssl/private/**", Class: Secret, Reason: "TLS keys"},
	{Pattern: "ssl/private/**", Class: Secret, Reason: "TLS keys"},
	{Pattern: "**/swanctl/{private,rsa,ecdsa,pkcs8,pkcs12}/**", Class: Secret, Reason: "ipsec keys"},
	{Pattern: "**/ipsec.d/private/**", Class: Secret, Reason: "ipsec keys"},
	{Pattern: "ipsec.conf*", Class: Secret, Reason: "setkey(8)'s keys"},
	{Pattern: "ipsec.secrets*", Class: Secret, Reason: "ipsec secrets"},
	{Pattern: "swanctl.conf*", Class: Secret, Reason: "ipsec secrets"},
	{Pattern: "psk.txt*", Class: Secret, Reason: "racoon(8)'s pre-shared keys"},
	{Pattern: "*.psk", Class: Secret, Reason: "pre-shared key"},
	{Pattern: "{ppp.conf,ppp.secret,mpd.conf,mpd.secret}*", Class: Secret, Reason: "ppp secrets"},
	{Pattern: "{chap,pap}-secrets*", Class: Secret, Reason: "ppp secrets"},
	{Pattern: "**/wireguard/**", Class: Secret, Reason: "WireGuard's private keys"},
	{Pattern: "wpa_supplicant*.conf*", Class: Secret, Reason: "wireless passwords"},
	{Pattern: "hostapd{.wpa_psk,*.conf}*", Class: Secret, Reason: "wireless passwords"},
	{Pattern: "hcsecd.conf*", Class: Secret, Reason: "Bluetooth PINs and link keys"},
	{Pattern: "*.keytab*", Class: Secret, Reason: "Kerberos keys"},
	{Pattern: "*htpasswd*", Class: Secret, Reason: "password hashes"},
	{Pattern: "{.netrc,.pgpass,.my.cnf}", Class: Secret, Reason: "passwords"},
	{Pattern: "/dma/auth.conf*", Class: Secret, Reason: "dma(8)'s passwords"},
	{Pattern: "/mail/auth*/**", Class: Secret, Reason: "sendmail's passwords"},
	{Pattern: "{ssmtp.conf,msmtprc,sasl_passwd}*", Class: Secret, Reason: "passwords of a mail relay"},
	{Pattern: "nsmb.conf*", Class: Secret, Reason: "mount_smbfs(8)'s passwords"},
	{Pattern: "{iscsi,ctl}.conf*", Class: Secret, Reason: "iSCSI's CHAP secrets"},
	{Pattern: "{radius,tacplus}.conf*", Class: Secret, Reason: "shared secrets of logins"},
	{Pattern: "{snmpd.config,snmpd.conf}*", Class: Secret, Reason: "SNMP communities"},
	{Pattern: "ldap.secret*", Class: Secret, Reason: "password of the directory"},
	{Pattern: "*.secrets", Class: Secret, Reason: "secrets, such as rsyncd.secrets"},
}
