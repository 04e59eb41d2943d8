package config

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
