#!/bin/sh
# The paper's server on ZFS: a prototype and a jail, from the first snapshot to the last, hooks by rc.conf.
# shellcheck source=tests/freebsd/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck disable=SC2034 # jails.sh reads it
proto=cfgdtestproto jail=cfgdtest1
. "$here/jails.sh"

begin "the paper's server on ZFS"
# zfs.ko stays: on 13.2 the first jail(8) after a kldunload of it was seen to end in a panic, in jail_set(2).
kldstat -q -m zfs || kldload zfs 2>/dev/null || skip "there is no zfs.ko"
if zpool list cfgdtest >/dev/null 2>&1; then
	skip "there is a pool named cfgdtest"
fi
disk 1g
# destroy_pool takes the pool away if it stands on a disk of the scenario's.
destroy_pool() {
	for unit in $(my_disks); do
		if zpool list -HPv cfgdtest |
			awk -v d="/dev/md$unit" '$1 == d { found = 1 } END { exit !found }'; then
			zpool destroy -f cfgdtest
			return
		fi
	done
}
later destroy_pool
must zpool create -o cachefile=none -O mountpoint=none -O compression=lz4 -O atime=off cfgdtest "/dev/$md"
cp /etc/rc.conf "$W/rc.conf.first"

# replication: this machine plays the other one too. What ssh(1) is asked to run there runs here, where there
# is no ssh.
replication() {
	if [ -x /usr/bin/ssh ]; then
		echo "# replication was not run: it takes a stand-in for ssh(1), and ssh is here"
		return
	fi
	printf '#!/bin/sh\nshift 3\nexec sh -c "$*"\n' >/usr/local/sbin/ssh
	chmod 755 /usr/local/sbin/ssh
	must zfs create -o mountpoint=none cfgdtest/away
	ends "the prototype is sent to another machine" 0 cfgd proto send "$proto" other:cfgdtest/away/proto
	holds "with all its snapshots" zfs list cfgdtest/away/proto@1 cfgdtest/away/proto/etc@2
	must cfgd proto snapshot "$proto"
	ends "and what is new of it" 0 cfgd proto send --incremental "$proto" other:cfgdtest/away/proto
	holds "which arrives" zfs list cfgdtest/away/proto/etc@3
	eq "and is read-only" on "$(zfs get -H -o value readonly cfgdtest/away/proto/etc)"
	ends "a jail's own filesystems are snapshot" 0 cfgd jail snapshot "$jail"
	ends "and sent" 0 cfgd jail send "$jail" other:cfgdtest/away/jail
	has "and are there" "$(zfs list -H -o name -t snapshot -r cfgdtest/away/jail)" \
		"cfgdtest/away/jail/cfg@cfgd-"
	must zfs destroy -r cfgdtest/away
}

ends "a prototype is planned" 0 cfgd proto create --dataset cfgdtest/proto --ip 127.0.1.1 --interface lo0 \
	--plan "$proto"
has "in a dataset" "$out" "zfs create .*cfgdtest/proto$"
fails "which the plan does not make" zfs list cfgdtest/proto
must cfgd proto create --dataset cfgdtest/proto --ip 127.0.1.1 --interface lo0 "$proto"
eq "its system and its etc are filesystems" "zfs zfs" \
	"$(mounted_as /jail/$proto) $(mounted_as /jail/$proto/etc)"
system "/jail/$proto"

first_start ufs
eq "its cfg is a filesystem of its own" zfs "$(mounted_as "$cfg")"
holds "the snapshot is ZFS's" zfs list cfgdtest/proto/etc@1
edits
restart
upgrade
clone
fails "a clone's filesystems are gone with it" zfs list cfgdtest/cfgdtesttry
morning
replication
uninstall --force
eq "no dataset of them is left" cfgdtest "$(zfs list -H -o name -r cfgdtest)"
finish
