# What the scenarios share. A scenario reads this file, calls begin, checks, and calls finish.
#
# A scenario works on a machine that is in use, and leaves it as it was: /etc, /usr/local/etc and
# /usr/local/sbin are covered by a tmpfs(5) with a copy of what is below, /jail by a filesystem of its own,
# disks are md(4) with the scenario's label, the pool is named cfgdtest, jails are named cfgdtest and
# something more. All of it is taken away when the scenario ends, however it ends. What takes a thing away is
# registered before the thing is made, and looks whether it is the scenario's: an interrupt between the two
# neither leaves it behind nor costs the machine something of its own.
#
# It prints a line "ok N - what" or "not ok N - what" for each check, and ends 0 if all of them held, 1 if one
# did not, and 77 if the machine lacks what the scenario needs.

checks=0
failures=0
name=${0##*/}
name=${name%.sh}
here=$(cd "$(dirname "$0")" && pwd)
src=$(cd "$here/../.." && pwd)
program=${CFGD_PROGRAM:-$src/cfgd}
W=

# ok WHAT, notok WHAT [DETAIL...]: the result of a check.
ok() {
	checks=$((checks + 1))
	echo "ok $checks - $1"
}
notok() {
	checks=$((checks + 1))
	failures=$((failures + 1))
	echo "not ok $checks - $1"
	shift
	if [ $# -gt 0 ]; then
		printf '%s\n' "$@" | sed 's/^/#   /'
	fi
}

# skip WHY ends a scenario that this machine cannot run.
skip() {
	echo "1..0 # skip $name: $1"
	exit 77
}

# bail WHY ends a scenario that cannot go on.
bail() {
	notok "$@"
	echo "Bail out! $1"
	exit 1
}

finish() {
	echo "1..$checks"
	[ $failures = 0 ]
	exit
}

# eq WHAT WANT GOT
eq() {
	if [ "$2" = "$3" ]; then
		ok "$1"
	else
		notok "$1" "want: $2" "got:  $3"
	fi
}

# has WHAT TEXT PATTERN, hasnt WHAT TEXT PATTERN: whether a line of a text matches an extended regular
# expression.
has() {
	if printf '%s\n' "$2" | grep -Eq -e "$3"; then
		ok "$1"
	else
		notok "$1" "no line matches $3 in:" "$2"
	fi
}
hasnt() {
	if printf '%s\n' "$2" | grep -Eq -e "$3"; then
		notok "$1" "a line matches $3 in:" "$2"
	else
		ok "$1"
	fi
}

# holds WHAT COMMAND...: the command ends 0. fails WHAT COMMAND...: it does not.
holds() {
	what=$1
	shift
	if said=$("$@" 2>&1); then
		ok "$what"
	else
		notok "$what" "$* ended with $?" "$said"
	fi
}
fails() {
	what=$1
	shift
	if said=$("$@" 2>&1); then
		notok "$what" "$* ended with 0" "$said"
	else
		ok "$what"
	fi
}

# ends WHAT STATUS COMMAND...: the command ends with that status. What it printed stands in $out.
ends() {
	what=$1
	want=$2
	shift 2
	out=$("$@" 2>&1)
	rc=$?
	if [ $rc = "$want" ]; then
		ok "$what"
	else
		notok "$what" "$* ended with $rc and not $want:" "$out"
	fi
}

# must COMMAND... is a step without which nothing after it makes sense.
must() {
	out=$("$@" 2>&1) || bail "$*" "ended with $?" "$out"
}

# eventually WHAT SECONDS COMMAND...: the command ends 0 within that time. A daemon is waited for in no other
# way.
eventually() {
	what=$1
	end=$(($(date +%s) + $2 * ${CFGD_PATIENCE:-1}))
	shift 2
	while ! "$@" >/dev/null 2>&1; do
		if [ "$(date +%s)" -ge $end ]; then
			notok "$what" "$* did not end with 0 in time:" "$("$@" 2>&1 | head -20)"
			return
		fi
		sleep 0.2
	done
	ok "$what"
}

# same A B: two files hold the same.
same() { cmp -s "$1" "$2"; }

# gone PATH: there is nothing by that name, not even a link.
gone() { [ ! -e "$1" ] && [ ! -L "$1" ]; }

# later COMMAND... is run at the end; the last one first. It comes before the deed.
later() { printf '%s\n' "$*" >>"$W/later"; }

# begin WHAT: the machine is fit for it, and a directory of the scenario's own is in $W.
begin() {
	echo "# $name: $1"
	[ "$(uname -s)" = FreeBSD ] || skip "this is no FreeBSD"
	[ "$(id -u)" = 0 ] || skip "it takes root"
	[ -x "$program" ] || skip "$program is not there; CFGD_PROGRAM names another"
	# A daemon that is stopped has left its records: /var/run/cfgd tells of it, the socket does not.
	for used in /var/run/cfgd /var/db/cfgd /cfg /conf; do
		gone $used || skip "cfgd or NanoBSD is in use here: $used is there"
	done
	if [ -L /jail ] || { [ -e /jail ] && [ -n "$(ls -A /jail)" ]; }; then
		skip "/jail is in use here"
	fi
	if jls -q name | grep -q '^cfgdtest'; then
		skip "a jail named cfgdtest runs already"
	fi
	if ifconfig lo0 | grep -q 'inet 127\.0\.1\.'; then
		skip "lo0 has an address from 127.0.1.0/24"
	fi
	W=$(mktemp -d "${TMPDIR:-/tmp}/cfgdtest.XXXXXX") || skip "no room for a directory"
	W=$(realpath "$W") # as mount(8) names it
	label=${W##*/}
	trap clean EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	later free_disks
	later 'rm -rfx /var/run/cfgd /var/db/cfgd'
	later 'rm -f /var/log/jail_cfgdtest* /var/run/jail_cfgdtest* /var/run/jail.cfgdtest*'
	private
}

# clean takes away what the scenario made.
clean() {
	status=$?
	trap '' INT TERM HUP
	trap - EXIT
	set +e
	{
		end_jobs
		for j in $(jls -q name | grep '^cfgdtest'); do
			jail -r "$j" || jail -R "$j"
		done
		# jail -R of a jail whose configuration is gone leaves them.
		for ip in $(ifconfig lo0 | awk '$1 == "inet" && $2 ~ /^127\.0\.1\./ { print $2 }'); do
			ifconfig lo0 inet "$ip" -alias
		done
		stop_daemon
		unmount_below /jail
		free_disks vnode # their files are below $W
		unmount_below "$W"
		if [ -f "$W/later" ]; then
			tail -r "$W/later" >"$W/now"
			while read -r line; do
				eval "$line" </dev/null
			done <"$W/now"
		fi
	} >"$W/clean.log" 2>&1
	left=$(left_behind)
	if [ -n "$left" ]; then
		notok "nothing is left behind" "$left" "$(cat "$W/clean.log")"
		[ $status != 0 ] || status=1
	fi
	rm -rfx "$W"
	exit $status
}

# left_behind names what clean could not take away.
left_behind() {
	mount -p | awk -v w="$W/" 'index($2, w) == 1 || index($2, "/jail/") == 1 { print "mounted: " $2 }'
	my_disks | sed 's/^/disk: md/'
	jls -q name | sed -n 's/^cfgdtest/jail: &/p'
	for f in /var/run/cfgd /var/db/cfgd /cfg /conf /jail/*; do
		gone "$f" || echo "there: $f"
	done
}

# end_jobs ends what the scenario runs beside itself, with all that it started: a daemon(8) is no child any
# more.
end_jobs() {
	parents=$$
	all=
	# None of a generation starts another process once it is stopped.
	while parents=$(pgrep -d , -P "$parents"); do
		all=$(echo "$all,$parents" | tr , ' ')
		# shellcheck disable=SC2086 # words
		kill -STOP $all
	done
	if [ -n "$all" ]; then
		# shellcheck disable=SC2086 # words
		kill -9 $all
		# shellcheck disable=SC2086
		pwait -t 20s $all
		wait
	fi
}

# stop_daemon ends a daemon by its pid file, if it is one that the pid names.
stop_daemon() {
	pid=$(cat /var/run/cfgd/supervisor.pid 2>/dev/null) || return 0
	is_process "$pid" daemon || return 0
	kill "$pid"
	for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		kill -0 "$pid" 2>/dev/null || return 0
		sleep 0.5
	done
	kill -9 "$pid"
	pid=$(cat /var/run/cfgd/cfgd.pid) && is_process "$pid" cfgd && kill -9 "$pid"
	return "$i"
}

# is_process PID NAME: a process of that name has it.
is_process() { [ "$(ps -o comm= -p "$1")" = "$2" ]; }

# unmount_below DIR unmounts all that is mounted below it, and gives back the md(4) that a hook left there.
unmount_below() {
	mount -p | awk -v d="$1/" 'index($2, d) == 1 { print $1, $2 }' | tail -r >"$W/mounts"
	while read -r source dir; do
		umount -f "$dir"
		case $source in
		/dev/md*) case $dir in */etc) mdconfig -d -u "${source#/dev/md}" ;; esac ;;
		esac
	done <"$W/mounts"
}

# mounts_on DIR says how many filesystems are mounted on it, one over the other.
mounts_on() { mount -p | awk -v d="$1" '$2 == d { n++ } END { print n + 0 }'; }

# mount_over DIR OPTION... mounts something there. The end takes away what is there beyond what was there
# before.
mount_over() {
	over=$1
	shift
	later "unmount_to '$over' $(mounts_on "$over")"
	must mount "$@" "$over"
}

# unmount_to DIR N unmounts until N filesystems are left on a directory: the machine's own stay.
unmount_to() {
	while [ "$(mounts_on "$1")" -gt "$2" ]; do
		umount "$1" || umount -f "$1" || return
	done
}

# my_disks [TYPE] prints the units of the scenario's memory disks, or of those of a type. They are known by
# their label.
my_disks() {
	mdconfig -lv | awk -F '\t' -v l="$label" -v t="${1:-}" '
		$5 == l && (t == "" || $2 == t) { sub(/^md/, "", $1); print $1 }'
}

# free_disks [TYPE] gives them back, and unmounts what a command that was killed had mounted from them.
free_disks() {
	for unit in $(my_disks "${1:-}"); do
		mount -p | awk -v d="/dev/md$unit" 'index($1, d) == 1 && substr($1, length(d) + 1) !~ /^[0-9]/ { print $2 }' |
			while read -r dir; do
				umount -f "$dir"
			done
		mdconfig -d -u "$unit" -o force
	done
}

# cover DIR puts a tmpfs with a copy of the directory over it.
cover() {
	[ -d "$1" ] || make_dir "$1"
	must tar --numeric-owner -cf "$W/copy.tar" -C "$1" .
	mount_over "$1" -t tmpfs -o mode=755 tmpfs
	must tar --numeric-owner -xpf "$W/copy.tar" -C "$1"
	rm -f "$W/copy.tar"
}

# make_dir DIR makes a directory that the machine has not, and the missing ones above it. The end takes it
# away again, and what a command that was killed had mounted there.
make_dir() {
	case $1 in */*/*) [ -d "${1%/*}" ] || make_dir "${1%/*}" ;; esac
	gone "$1" || skip "$1 is there"
	later "unmount_to '$1' 0; rmdir '$1'"
	mkdir "$1" 2>/dev/null || skip "$1 cannot be made: is / read-only?"
}

# private covers the machine's configuration, with nothing of its own jails in it, and installs cfgd.
private() {
	[ ! -L /etc ] || skip "/etc is a link"
	# /usr/local is a link on some machines, and mount(8) names what it leads to.
	local_etc=$(realpath /usr/local/etc 2>/dev/null || echo /usr/local/etc)
	local_sbin=$(realpath /usr/local/sbin 2>/dev/null || echo /usr/local/sbin)
	etc_mounts=$(mounts_on /etc)
	[ -d /jail ] || make_dir /jail
	# Whatever a scenario leaves there goes with it.
	on_ufs /jail 32m
	cover /etc
	cover $local_etc
	rm -rf /etc/jail.conf /etc/jail.*.conf /etc/jail.conf.d /etc/fstab.* /etc/rc.conf.local /etc/rc.conf.d \
		$local_etc/cfgd.toml
	cat >/etc/rc.conf <<-EOF
		hostname="$(hostname)"
		jail_enable="YES"
		jail_confwarn="NO"
		cfgd_enable="YES"
	EOF
	# The programs that are there stay reachable: links lead to the directory that is covered.
	[ -d $local_sbin ] || make_dir $local_sbin
	mkdir "$W/sbin"
	mount_over "$W/sbin" -t nullfs -o ro $local_sbin
	mount_over $local_sbin -t tmpfs -o mode=755 tmpfs
	for f in "$W"/sbin/*; do
		[ ! -e "$f" ] || ln -s "$f" $local_sbin/
	done
	rm -f $local_sbin/cfgd $local_sbin/jail_etc_init $local_sbin/jail_etc_cleanup
	must cp "$program" $local_sbin/cfgd
	ln -s cfgd $local_sbin/jail_etc_init
	ln -s cfgd $local_sbin/jail_etc_cleanup
	mkdir -p $local_etc/rc.d $local_etc/periodic/daily
	must install -m 755 "$src/contrib/rc.d/cfgd" "$src/contrib/rc.d/cfgd_early" $local_etc/rc.d/
	must install -m 755 "$src/contrib/periodic/480.cfgd" $local_etc/periodic/daily/
	PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin
	export PATH
}

# attach OPTION... makes a memory disk, whose name is in $md. The end gives it back by its label.
attach() { md=$(mdconfig -a -L "$label" "$@") || bail "mdconfig -a $*"; }

# disk SIZE makes one in memory.
disk() { attach -t swap -s "$1"; }

# on_ufs DIR SIZE mounts a UFS on a memory disk of its own.
on_ufs() {
	disk "$2"
	must newfs -U /dev/"$md"
	mkdir -p "$1"
	mount_over "$1" /dev/"$md"
}

# memory_disks are those of the whole machine, one a line.
memory_disks() { mdconfig -l | tr ' ' '\n' | sed '/^$/d' | sort; }

# system DIR installs a part of this machine's system, as much as a jail needs to start: no compiler, no
# static library.
system() {
	(
		cd / || exit
		find bin sbin lib libexec usr/bin usr/sbin usr/lib usr/libexec -type f \( -size +8000 -o -name '*.a' \) \
			! -name '*.so*' >"$W/large"
		tar -cf - -X "$W/large" --exclude usr/lib/debug --exclude usr/lib/clang --exclude usr/lib32 \
			bin sbin lib libexec usr/bin usr/sbin usr/lib usr/libexec usr/share/skel root
	) 2>/dev/null | tar -xpf - -C "$1" || bail "install a system below $1"
	tar -cf - -C /etc . | tar -xpf - -C "$1/etc"
	for d in dev proc mnt tmp var/run var/log var/tmp var/db var/empty var/mail var/cron/tabs \
		usr/local/etc home cfg conf/base/etc; do
		mkdir -p "$1/$d"
	done
	chmod 1777 "$1/tmp" "$1/var/tmp"
	rm -rf "$1"/etc/fstab "$1"/etc/rc.d/job "$1"/etc/rc.local
	: >"$1/etc/fstab"
	# A jail ends with its last process: cron(8) is what keeps it.
	cat >"$1/etc/rc.conf" <<-'EOF'
		hostname="prototype"
		#
		sendmail_enable="NONE"
		syslogd_enable="NO"
		#
		cron_enable="YES"
		sshd_enable="NO"
		#
		cron_flags=""
	EOF
	echo '127.0.0.1 localhost' >"$1/etc/hosts"
	echo 'default' >"$1/etc/to-be-removed"
	echo 'default' >"$1/etc/to-be-restricted"
}

# shape DIR prints of every path what must come back: kind, mode, owner, group, flags, size, time, target or
# digest. A directory's size and time are its filesystem's business, and a database's bytes are pwd_mkdb's. Of
# the flags only those count that cfgd keeps.
shape() {
	(
		cd "$1" || exit
		find . -type l -exec stat -f '%Sf %N %SHT %u %g %Y' {} +
		find . -type d -exec stat -f '%Sf %N %SHT %Sp %u %g' {} +
		find . ! -type l ! -type d ! -name '*.db' -exec stat -f '%Sf %N %SHT %Sp %u %g %z %Fm' {} +
		find . -type f ! -name '*.db' -exec cksum {} + | sed 's/^/- /'
	) | awk '{
		n = split($1, flags, ",")
		kept = "-"
		for (i = 1; i <= n; i++) {
			if (flags[i] ~ /^(schg|sappnd|sunlnk|uchg|uappnd|uunlnk|nodump)$/) kept = kept flags[i] "-"
		}
		sub(/^[^ ]*/, kept)
		print
	}' | sort
}

# mounted_as DIR is the kind of the filesystem that is mounted there.
mounted_as() { mount -p | awk -v d="$1" '$2 == d { t = $3 } END { print t }'; }

# column TARGET N is a column of cfgd status, which asks the daemon where one runs.
column() { cfgd status "$1" 2>/dev/null | awk -v t="$1" -v n="$2" '$1 == t { print $n }'; }

# all_saved TARGET: a restart would lose nothing.
all_saved() { [ "$(column "$1" 5)" = 0 ]; }

# runs JAIL: jail(8) has it.
runs() { jls -j "$1" jid >/dev/null 2>&1; }

# by_rc start|restart JAIL: rc.d/jail ends 0 even if a jail does not start, and prints why.
by_rc() {
	must service jail "$1" "$2"
	runs "$2" || bail "service jail $1 $2" "$out"
}

# in_jail JAIL COMMAND runs a line of sh(1) in a jail.
in_jail() { jexec "$1" /bin/sh -c "$2"; }
