package config

import (
	"fmt"
	"path"
	"slices"
	"testing"

	"cfgd/config/pattern"
)

func TestBuiltinClasses(t *testing.T) {
	for _, c := range []struct {
		class Class
		paths []string
	}{
		{Persist, []string{"rc.conf", "fstab", "group", "passwd", "hosts", "local/nginx/nginx.conf",
			"local/x/pwd.db", "local/motd", "ssh/sshd_config",
			"ssh/ssh_host_rsa_key.pub", "ssh/ssh_host_ed25519_key.pub", "local/ssl/cert.pem",
			"local/ssl/private", "local/composer.lock", "rc.d/hostapd",
			"rc.conf.bak", "rc.conf.orig", "local/x.tmp", "daemon.pid", "pw.conf", "group.backup",
			"rc.d/ipsec", "rc.d/wpa_supplicant", "aliases", "mail/aliases",
			"login.conf", "services", ".profile", "local/dumpdates", "motd.template", "local/keyboard",
			"monkey", ".cfgdx", "sw.swp", "gr\xfcn", "a\nb", ".", ""}},
		{Secret, []string{"master.passwd", "master.passwd.bak", "local/jail/master.passwd", "local/spwd.db",
			"ssh/ssh_host_rsa_key", "ssh/ssh_host_key",
			"ssh/ssh_host_ed25519_key.old", "local/ssl/private/a", "local/ssl/private/b/c.pem",
			"local/nginx/tls.key", "tls.key.bak", "namedb/rndc.key", "ntp.keys",
			"wpa_supplicant.conf", "wpa_supplicant-wlan0.conf", "hostapd.conf", "hostapd.wpa_psk",
			"ipsec.conf", "local/ipsec.secrets", "local/racoon/psk.txt",
			"ppp/ppp.conf", "ppp/ppp.secret", "local/mpd5/mpd.conf", "chap-secrets",
			"local/wireguard/wg0.conf", "wireguard/wg0.conf", "krb5.keytab",
			"local/www/.htpasswd", "opiekeys", "opieaccess", "dma/auth.conf", "mail/auth/client",
			"iscsi.conf", "ctl.conf", "nsmb.conf", "shadow", "shadow-",
			"local/id_ed25519", "radius.conf", "local/letsencrypt/privkey1.pem", "local/\xff.key",
			"local/a\nb.key"}},
		{
			Derived, []string{
				"pwd.db", "spwd.db", "login.conf.db", "aliases.db", "mail/aliases.db", "services.db",
			},
		},
		{Volatile, []string{"motd", "dumpdates"}},
		{Ignore, []string{".rc.conf.swp", "local/nginx/.nginx.conf.swo", ".rc.conf.swx", "4913", "local/4913",
			"rc.conf~", "#rc.conf#", ".#rc.conf", ".nfs01.4",
			".cfgd.17", "local/.cfgd.3", ".cfgd/manifest", "pw.a1B2c3", "pwd.db.tmp", "spwd.db.tmp",
			"sudoers.tmp", "local/sudoers.tmp", ".!1234!rc.conf"}},
	} {
		for _, p := range c.paths {
			var classes *Classes
			if got, why := classes.Of(p); got != c.class || why == "" {
				t.Errorf("%q is %s (%s), want %s", p, got, why, c.class)
			}
		}
	}
}

// A derived file can be a secret too, and so can a temporary.
func TestSecret(t *testing.T) {
	var c Classes
	for p, want := range map[string]bool{
		"spwd.db":            true,
		"master.passwd":      true,
		"pwd.db":             false,
		"rc.conf":            false,
		"pw.a1B2c3":          true,
		".master.passwd.swp": true,
	} {
		if c.Secret(p) != want {
			t.Errorf("Secret(%s) = %v", p, !want)
		}
	}
}

func TestUserClasses(t *testing.T) {
	c := newClasses([]ClassRule{
		{Pattern: "local/keep/x.key", Class: Persist},
		{Pattern: "local/keep", Class: Secret},
		{Pattern: "/motd", Class: Persist},
		{Pattern: "*.cache", Class: Volatile},
		{Pattern: "local/**/log/", Class: Ignore},
		{Pattern: "master.passwd", Class: Report},
		{Pattern: "local/*.d", Class: Report},
		{Pattern: "rc.conf", Class: Secret},
	})
	for p, want := range map[string]Class{
		"local/keep/x.key": Persist, "local/keep": Secret, "local/keep/a/b": Secret, "local/keeper": Persist,
		"keep": Persist,
		"motd": Persist, "local/a.cache": Volatile, "a.cache/b/c": Volatile, "local/log": Ignore,
		"local/log/x": Ignore, "local/a/b/log/x": Ignore,
		"log/x": Persist, "local/a.d/b": Report, "local/a/b.d": Persist, "rc.conf": Secret,
		"local/rc.conf": Secret, "x.key": Secret,
	} {
		if got, _ := c.Of(p); got != want {
			t.Errorf("%s is %s, want %s", p, got, want)
		}
	}
	for p, want := range map[string]bool{
		"local/keep/x.key": false,
		"local/keep/y":     true,
		"master.passwd":    true,
		"rc.conf":          true,
	} {
		if c.Secret(p) != want {
			t.Errorf("Secret(%s) = %v", p, !want)
		}
	}
	if !c.Equal(newClasses(c.user)) || c.Equal(nil) || !(*Classes)(nil).Equal(&Classes{}) {
		t.Error("Equal")
	}
	if rows := c.Table(); rows[0].Pattern != "local/keep/x.key" || len(rows) != len(builtinRules)+8 {
		t.Errorf("table of %d rows", len(rows))
	}
}

// FuzzClasses: the whole table decides as its rules do one after the other.
func FuzzClasses(f *testing.F) {
	var single []*pattern.Table
	for _, r := range builtinRules {
		f.Add(r.Pattern)
		single = append(single, pattern.Compile([]string{r.Pattern}, false))
	}
	for _, s := range []string{
		"local/ssl/private/x/y", "a/wireguard/b", "wireguard/b", "mail/auth.d/x", "a/mail/auth/x",
		"x.key.y/z", "\xff~", "#a\n#", "a/b/ipsec.d/private/k",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if path.Clean(name) != name {
			return
		}
		want := slices.IndexFunc(single, func(t *pattern.Table) bool { return t.First(name) == 0 })
		if got := builtinSet.First(name); got != want {
			t.Errorf("%q: rule %d, want %d", name, got, want)
		}
		new(Classes).Secret(name)
	})
}

func TestBuiltinTable(t *testing.T) {
	for _, r := range builtinRules {
		if err := pattern.Check(r.Pattern); err != nil || r.Reason == "" || r.Class == "" {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

func BenchmarkClasses(b *testing.B) {
	var names []string
	for i := range 2800 {
		names = append(names, fmt.Sprintf("local/dir%d/sub%d/file%d.conf", i%30, i%7, i))
	}
	c := newClasses([]ClassRule{
		{Pattern: "local/ssl/**", Class: Secret}, {Pattern: "*.cache", Class: Volatile},
	})
	for b.Loop() {
		for _, n := range names {
			c.Of(n)
		}
	}
}

func TestSecretsByTheirPlace(t *testing.T) {
	t.Parallel()
	var c *Classes
	for name, want := range map[string]bool{
		"master.passwd": true, "master.passwd/f": true, "master.passwd/a/b": true, "ssh/x.key/part": true,
		"ssh/sshd_config": false, "rc.conf": false,
		"local/ssl/private": true, "local/ssl/private/a": true, "ssl": false, "server.KEY": true,
		"a/key.pem": true, "krb5.keytab.bak": true, "keys.txt": false,
		"monkey.pem": false, "local": false,
	} {
		if got := c.Secret(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
