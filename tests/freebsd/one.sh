# One jail on plain directories of a UFS, for scenarios that need no more. It is read after lib.sh.

jail=cfgdtest1
live=/jail/$jail/etc
cfg=/jail/$jail/cfg
store=/jail/data/$jail/cfg

# one_jail MEMORY makes it, with its hooks in jail.conf, and starts it.
one_jail() {
	on_ufs /jail 1g
	mkdir -p /jail/proto/1/etc /jail/$jail $store /jail/data/$jail/var
	system /jail/proto/1
	(cd /jail/proto/1/var && tar -cf - .) | tar -xpf - -C /jail/data/$jail/var
	cat >/etc/fstab.$jail <<-EOF
		/jail/proto/1 /jail/$jail nullfs ro 0 0
		/jail/proto/1/etc /jail/$jail/conf/base/etc nullfs ro 0 0
		$store $cfg nullfs rw 0 0
		/jail/data/$jail/var /jail/$jail/var nullfs rw 0 0
	EOF
	sed "s|^vhost1 {|$jail {|; s|vhost1.domain.local|$jail|; s|192.168.0.11|\"lo0\\|127.0.1.11\"|" \
		"$src/contrib/jail.conf.sample" >/etc/jail.conf
	printf '[defaults]\nmemory = "%s"\n' "$1" >/usr/local/etc/cfgd.toml
	echo "jail_list=\"$jail\"" >>/etc/rc.conf
	must service cfgd start
	by_rc start $jail
}
