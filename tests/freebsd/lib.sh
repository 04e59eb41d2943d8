# What the scenarios share. A scenario reads this file, calls begin, checks, and calls finish.
#
# A scenario works on a machine that is in use, and leaves it as it was: /etc, /usr/local/etc and /usr/local/sbin are
# covered by a tmpfs(5) with a copy of what is below, disks are md(4), the pool is named cfgdtest, jails are named
# cfgdtest and something more. All of it is taken away when the scenario ends, however it ends.
#
# It prints a line "ok N - what" or "not ok N - what" for each check, and ends 0 if all of them held, 1 if one did not,
# and 77 if the machine lacks what the scenario needs.

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

# has WHAT TEXT PATTERN, hasnt WHAT TEXT PATTERN: whether a line of a text matches an extended regular expression.
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

# eventually WHAT SECONDS COMMAND...: the command ends 0 within that time. A daemon is waited for in no other way.
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

# ended PID: the process is no longer there.
ended() { ! kill -0 "$1" 2>/dev/null; }

# later COMMAND... is run at the end; the last one first.
later() { printf '%s\n' "$*" >>"$W/later"; }

# begin WHAT: the machine is fit for it, and a directory of the scenario's own is in $W.
begin() {
	echo "# $name: $1"
	[ "$(uname -s)" = FreeBSD ] || skip "this is no FreeBSD"
	[ "$(id -u)" = 0 ] || skip "it takes root"
	[ -x "$program" ] || skip "$program is not there; CFGD_PROGRAM names another"
	for used in /var/run/cfgd/cfgd.sock /var/db/cfgd /cfg /conf; do
		gone $used || skip "cfgd or NanoBSD is in use here: $used is there"
	done
	if [ -e /jail ] && [ -n "$(ls -A /jail)" ]; then
		skip "/jail is in use here"
	fi
	if jls -q name | grep -q '^cfgdtest'; then
		skip "a jail named cfgdtest runs already"
	fi
	W=$(mktemp -d "${TMPDIR:-/tmp}/cfgdtest.XXXXXX") || skip "no room for a directory"
	trap clean EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	later "rm -rf /var/run/cfgd /var/db/cfgd /var/log/jail_cfgdtest*"
	private
}

# clean takes away what the scenario made.
clean() {
	status=$?
	trap '' INT TERM HUP
	trap - EXIT
	set +e
	{
		for j in $(jls -q name | grep '^cfgdtest'); do
			jail -r "$j" || jail -R "$j"
		done
		stop_daemon
		for a in $(ifconfig lo0 | awk '$2 ~ /^127[.]0[.]1[.]/ { print $2 }'); do
			ifconfig lo0 inet "$a" -alias
		done
		unmount_below /jail
		unmount_below "$W"
		if [ -f "$W/later" ]; then
			tail -r "$W/later" >"$W/now"
			while read -r line; do
				eval "$line" </dev/null
			done <"$W/now"
		fi
	} >"$W/clean.log" 2>&1
	rm -rf "$W"
	exit $status
}

stop_daemon() {
	pid=$(cat /var/run/cfgd/supervisor.pid 2>/dev/null) || return 0
	kill "$pid"
	for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		kill -0 "$pid" 2>/dev/null || return 0
		sleep 0.5
	done
	kill -9 "$pid" "$(cat /var/run/cfgd/cfgd.pid)"
	return "$i"
}

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

# cover DIR puts a tmpfs with a copy of the directory over it.
cover() {
	if [ ! -d "$1" ]; then
		make_dir "$1"
	fi
	must tar --numeric-owner -cf "$W/copy.tar" -C "$1" .
	must mount -t tmpfs -o mode=755 tmpfs "$1"
	later "umount '$1' || umount -f '$1'"
	must tar --numeric-owner -xpf "$W/copy.tar" -C "$1"
	rm -f "$W/copy.tar"
}

# make_dir DIR makes a directory of the machine's that the end takes away again, and the missing ones above it.
make_dir() {
	case $1 in */*/*) [ -d "${1%/*}" ] || make_dir "${1%/*}" ;; esac
	mkdir "$1" 2>/dev/null || skip "$1 cannot be made: is / read-only?"
	later "rmdir '$1'"
}

# private covers the machine's configuration, with nothing of its own jails in it, and installs cfgd.
private() {
	[ -d /jail ] || make_dir /jail
	cover /etc
	cover /usr/local/etc
	rm -rf /etc/jail.conf /etc/jail.*.conf /etc/jail.conf.d /etc/fstab.* /etc/rc.conf.local /etc/rc.conf.d \
		/usr/local/etc/cfgd.toml
	cat >/etc/rc.conf <<-EOF
		hostname="$(hostname)"
		jail_enable="YES"
		jail_confwarn="NO"
		cfgd_enable="YES"
	EOF
	# The programs that are there stay reachable: links lead to the directory that is covered.
	[ -d /usr/local/sbin ] || make_dir /usr/local/sbin
	mkdir "$W/sbin"
	must mount -t nullfs -o ro /usr/local/sbin "$W/sbin"
	must mount -t tmpfs -o mode=755 tmpfs /usr/local/sbin
	later "umount '$W/sbin'"
	later "umount /usr/local/sbin || umount -f /usr/local/sbin"
	for f in "$W"/sbin/*; do
		[ ! -e "$f" ] || ln -s "$f" /usr/local/sbin/
	done
	rm -f /usr/local/sbin/cfgd /usr/local/sbin/jail_etc_init /usr/local/sbin/jail_etc_cleanup
	must cp "$program" /usr/local/sbin/cfgd
	ln -s cfgd /usr/local/sbin/jail_etc_init
	ln -s cfgd /usr/local/sbin/jail_etc_cleanup
	mkdir -p /usr/local/etc/rc.d /usr/local/etc/periodic/daily
	must install -m 755 "$src/contrib/rc.d/cfgd" "$src/contrib/rc.d/cfgd_early" /usr/local/etc/rc.d/
	must install -m 755 "$src/contrib/periodic/480.cfgd" /usr/local/etc/periodic/daily/
	PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin
	export PATH
}

# disk SIZE makes a memory disk, whose name is in $md.
disk() {
	md=$(mdconfig -a -t swap -s "$1") || bail "mdconfig -a -t swap -s $1"
	later "mdconfig -d -u ${md#md} -o force"
}

# on_ufs DIR SIZE mounts a UFS on a memory disk of its own.
on_ufs() {
	disk "$2"
	must newfs -U /dev/"$md"
	mkdir -p "$1"
	must mount /dev/"$md" "$1"
	later "umount '$1' || umount -f '$1'"
}

# system DIR installs a part of this machine's system, as much as a jail needs to start: no compiler, no static library. A
# jail lives as long as a process does: cron(8).
system() {
	(
		cd / || exit
		find bin sbin lib libexec usr/bin usr/sbin usr/lib usr/libexec -type f \( -size +8000 -o -name '*.a' \) \
			! -name '*.so*' >"$W/large"
		tar -cf - -X "$W/large" --exclude usr/lib/debug --exclude usr/lib/clang --exclude usr/lib32 \
			bin sbin lib libexec usr/bin usr/sbin usr/lib usr/libexec usr/share/skel root
	) 2>/dev/null | tar -xpf - -C "$1" || bail "install a system below $1"
	tar -cf - -C /etc . | tar -xpf - -C "$1/etc"
	for d in dev proc mnt var/run var/log var/tmp var/db var/empty var/mail var/cron/tabs usr/local/etc home cfg conf/base/etc; do
		mkdir -p "$1/$d"
	done
	chmod 1777 "$1/var/tmp"
	rm -rf "$1/tmp"
	ln -s var/tmp "$1/tmp" # the root is read-only
	rm -rf "$1"/etc/fstab "$1"/etc/rc.d/job "$1"/etc/rc.local
	: >"$1/etc/fstab"
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

# shape DIR prints of every path what must come back: kind, mode, owner, group, flags, size, time, target or digest.
# A directory's size and time are its filesystem's business, and a database's bytes are pwd_mkdb's.
shape() {
	(
		cd "$1" || exit
		find . ! -name '*.db' | sort | while IFS= read -r p; do
			if [ -L "$p" ]; then
				stat -f '%N %SHT %u %g %Y' "$p"
			elif [ -d "$p" ]; then
				stat -f '%N %SHT %Sp %u %g %Sf' "$p"
			else
				echo "$(stat -f '%N %SHT %Sp %u %g %Sf %z %Fm' "$p") $(sha256 -q "$p" 2>/dev/null || cksum <"$p")"
			fi
		done
	)
}

# mounted_as DIR is the kind of the filesystem that is mounted there.
mounted_as() { mount -p | awk -v d="$1" '$2 == d { t = $3 } END { print t }'; }

# column TARGET N is a column of cfgd status, which asks the daemon where one runs.
column() { cfgd status "$1" 2>/dev/null | awk -v t="$1" -v n="$2" '$1 == t { print $n }'; }

# all_saved TARGET: a restart would lose nothing.
all_saved() { [ "$(column "$1" 5)" = 0 ]; }

# start_jail JAIL [WORD] starts it by rc(8), and says why it does not run. Without a running jail nothing goes on.
start_jail() {
	out=$(service jail "${2:-start}" "$1" 2>&1)
	if runs "$1"; then
		ok "$1 runs"
	else
		bail "$1 runs" "service jail ${2:-start} said:" "$out" "its console:" \
			"$(tail -20 "/var/log/jail_$1_console.log" 2>&1)" "mounts:" "$(mount -p | grep /jail)"
	fi
}

# runs JAIL: jail(8) has it.
runs() { jls -j "$1" jid >/dev/null 2>&1; }

# in_jail JAIL COMMAND runs a line of sh(1) in a jail.
in_jail() { jexec "$1" /bin/sh -c "$2"; }
