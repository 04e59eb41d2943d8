#!/bin/sh
# The hooks of a jail, by rc.conf and by jail.conf: set up from the paper's own lines, started, stopped,
# repeated, and after a start that failed.
# shellcheck source=tests/freebsd/lib.sh
. "$(dirname "$0")/lib.sh"

# nothing_left JAIL
nothing_left() {
	eq "nothing of $1 is mounted" "" "$(mount -p | awk '{ print $2 }' | grep "^/jail/$1")"
	eq "no memory disk is left of $1" "" "$(memory_disks | diff "$W/disks" -)"
}

# unmounted DIR
# shellcheck disable=SC2317 # eventually calls it
unmounted() { [ "$(mounts_on "$1")" = 0 ]; }

begin "hooks by rc.conf and by jail.conf"
on_ufs /jail 1g
memory_disks >"$W/disks"
mkdir -p /jail/proto/1/etc /jail/data
system /jail/proto/1
for j in cfgdtest1 cfgdtest2; do
	mkdir -p /jail/$j /jail/data/$j
	for d in cfg var home; do
		mkdir /jail/data/$j/$d
	done
	(cd /jail/proto/1/var && tar -cf - .) | tar -xpf - -C /jail/data/$j/var
	cat >/etc/fstab.$j <<-EOF
		/jail/proto/1 /jail/$j nullfs ro 0 0
		/jail/proto/1/etc /jail/$j/conf/base/etc nullfs ro 0 0
		/jail/data/$j/cfg /jail/$j/cfg nullfs rw 0 0
		/jail/data/$j/var /jail/$j/var nullfs rw 0 0
	EOF
done

# The paper's lines, slip and all: the second was meant as exec_poststop0, and hides the first.
mkdir /etc/admin
ln -s /usr/local/sbin/cfgd /etc/admin/jail_etc_init
ln -s /usr/local/sbin/cfgd /etc/admin/jail_etc_cleanup
cat >>/etc/rc.conf <<'E1'
jail_list="cfgdtest1"
jail_cfgdtest1_rootdir="/jail/cfgdtest1"
jail_cfgdtest1_hostname="cfgdtest1"
jail_cfgdtest1_ip="127.0.1.11"
jail_cfgdtest1_interface="lo0"
jail_cfgdtest1_devfs_enable="YES"
jail_cfgdtest1_mount_enable="YES"
jail_cfgdtest1_fstab="/etc/fstab.cfgdtest1"
jail_cfgdtest1_exec_prestart0="/etc/admin/jail_etc_init cfgdtest1"
jail_cfgdtest1_exec_prestart0="/etc/admin/jail_etc_cleanup cfgdtest1"
E1
ends "check names the paper's slip" 78 cfgd check
has "with its line" "$out" '^/etc/rc.conf:[0-9]+: error: .*jail_cfgdtest1_exec_prestart0'
ends "setup mends it" 0 cfgd setup --yes
ends "and then check has no error" 0 cfgd check

# jail.conf, from the sample that is installed.
sed 's|^vhost1 {|cfgdtest2 {|; s|vhost1.domain.local|cfgdtest2|; s|192.168.0.11|"lo0\|127.0.1.12"|' \
	"$src/contrib/jail.conf.sample" >/etc/jail.conf
echo 'jail_list="cfgdtest1 cfgdtest2"' >>/etc/rc.conf
ends "check finds both" 0 cfgd check
has "one by rc.conf" "$out" '^cfgdtest1$'
has "one by jail.conf" "$out" '^cfgdtest2$'

for j in cfgdtest1 cfgdtest2; do
	live=/jail/$j/etc
	by_rc start $j
	holds "$j runs" runs $j
	eq "$j has its /etc in memory" ufs "$(mounted_as $live)"
	must in_jail $j 'echo "# edited" >> /etc/rc.conf; rm /etc/to-be-removed'
	ends "a save without a daemon" 0 cfgd save $j
	must in_jail $j 'echo "10.0.0.1 last" >> /etc/hosts'
	by_rc restart $j
	holds "$j runs again" runs $j
	eq "what was saved is there" "# edited" "$(tail -1 $live/rc.conf)"
	eq "and what nobody saved before the stop" "10.0.0.1 last" "$(tail -1 $live/hosts)"
	holds "what was removed is not" gone $live/to-be-removed
	ends "nothing is unsaved" 0 cfgd diff --unsaved $j

	# A hook that runs twice does nothing the second time.
	must in_jail $j 'echo "10.0.0.2 edited" >> /etc/hosts'
	ends "a second init is a success" 0 cfgd jail init $j
	eq "and touches nothing" "10.0.0.2 edited" "$(tail -1 $live/hosts)"
	eq "nor mounts anything" 1 "$(mount -p | awk -v d=$live '$2 == d' | wc -l | tr -d ' ')"
	must service jail stop $j
	nothing_left $j
	ends "a second cleanup is a success" 0 cfgd jail cleanup $j
done

# By jail(8) itself, as bastille and others call it.
holds "jail -c starts it" jail -f /etc/jail.conf -c cfgdtest2
eq "with what was edited" "10.0.0.2 edited" "$(tail -1 /jail/cfgdtest2/etc/hosts)"
holds "jail -r stops it" jail -f /etc/jail.conf -r cfgdtest2

# A start that fails after its init runs no hook, and leaves the root busy: the next one clears that first.
cp /etc/jail.conf "$W/jail.conf"
sed -i '' 's|^exec.start = .*|exec.start = "/usr/bin/false";|' /etc/jail.conf
fails "a start whose exec.start fails" jail -f /etc/jail.conf -c cfgdtest2
fails "leaves no jail" runs cfgdtest2
eq "but its root" 1 "$(mounts_on /jail/cfgdtest2)"
echo "10.0.0.3 after it failed" >>/jail/cfgdtest2/etc/hosts
fails "the next one fails as well" jail -f /etc/jail.conf -c cfgdtest2
cp "$W/jail.conf" /etc/jail.conf
holds "the next start is well" jail -f /etc/jail.conf -c cfgdtest2
eq "and has what was edited" "10.0.0.3 after it failed" "$(tail -1 /jail/cfgdtest2/etc/hosts)"
eq "one /etc is mounted" 1 "$(mounts_on /jail/cfgdtest2/etc)"
eq "on one root" 1 "$(mounts_on /jail/cfgdtest2)"
holds "and it stops" jail -f /etc/jail.conf -r cfgdtest2
nothing_left cfgdtest2

# The same without exec.prepare: one command settles it.
grep -v '^exec.prepare' "$W/jail.conf" |
	sed 's|^exec.start = .*|exec.start = "/usr/bin/false";|' >/etc/jail.conf
fails "without exec.prepare a start fails" jail -f /etc/jail.conf -c cfgdtest2
fails "and another" jail -f /etc/jail.conf -c cfgdtest2
ends "a cleanup is all that it takes" 0 cfgd jail cleanup cfgdtest2
has "which says so" "$out" '/jail/cfgdtest2 unmounted'
nothing_left cfgdtest2
cp "$W/jail.conf" /etc/jail.conf
holds "the start after it is well" jail -f /etc/jail.conf -c cfgdtest2
holds "and stops" jail -f /etc/jail.conf -r cfgdtest2

# By rc.conf, with what the sample says.
sed -n "s/vhost1/cfgdtest1/g; /^jail_cfgdtest1_parameters/p" "$src/contrib/rc.conf.sample" >>/etc/rc.conf
has "rc.conf has the sample's line" "$(cat /etc/rc.conf)" '^jail_cfgdtest1_parameters=.*exec.prepare'
ends "check has no error" 0 cfgd check
cp /etc/rc.conf "$W/rc.conf"
echo 'jail_cfgdtest1_exec_start="/usr/bin/false"' >>/etc/rc.conf
service jail start cfgdtest1 >/dev/null 2>&1
fails "by rc.conf: a start that fails" runs cfgdtest1
eq "leaves its root" 1 "$(mounts_on /jail/cfgdtest1)"
cp "$W/rc.conf" /etc/rc.conf
by_rc start cfgdtest1
ok "the next start by rc.conf is well"
eq "and has what was edited in cfgdtest1" "10.0.0.2 edited" "$(tail -1 /jail/cfgdtest1/etc/hosts)"

# A stop with a busy /etc: jail(8) leaves the root and the /etc, and the next start clears them.
tail -f /jail/cfgdtest1/etc/hosts >/dev/null &
holder=$!
service jail stop cfgdtest1 >/dev/null 2>&1
fails "a stop with a busy /etc stops the jail" runs cfgdtest1
eq "and leaves its root" 1 "$(mounts_on /jail/cfgdtest1)"
ends "a cleanup names who is in it" 2 cfgd jail cleanup cfgdtest1
has "by its pid" "$out" "tail \\($holder\\)"
kill $holder
wait $holder 2>/dev/null
by_rc start cfgdtest1
ok "the start after it is well by itself"
must service jail stop cfgdtest1
nothing_left cfgdtest1

# Without that line the daemon does it, when cfg has been away for a while.
sed -i '' '/^jail_cfgdtest1_parameters/d' /etc/rc.conf
cp /etc/rc.conf "$W/rc.conf"
must service cfgd start
echo 'jail_cfgdtest1_exec_start="/usr/bin/false"' >>/etc/rc.conf
service jail start cfgdtest1 >/dev/null 2>&1
fails "beside a daemon: a start that fails" runs cfgdtest1
echo "10.0.0.4 after it failed" >>/jail/cfgdtest1/etc/hosts
cp "$W/rc.conf" /etc/rc.conf
eventually "the daemon clears what it left" 180 unmounted /jail/cfgdtest1
by_rc start cfgdtest1
eq "and the next start has it all" "10.0.0.4 after it failed" "$(tail -1 /jail/cfgdtest1/etc/hosts)"
must service jail stop cfgdtest1
nothing_left cfgdtest1
must service cfgd stop
finish
