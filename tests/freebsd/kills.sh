#!/bin/sh
# cfgd is killed at random instants: saves, the daemon, and both hooks. No file is ever torn, what was called
# saved is there, and the next command goes on from where the last one was killed. CFGD_KILLS says how often,
# 1000 if not set.
# shellcheck source=tests/freebsd/lib.sh
. "$(dirname "$0")/lib.sh"
. "$here/versions.sh"

jail=cfgdtest1
live=/jail/$jail/etc
cfg=/jail/$jail/cfg

begin "kills at random instants"
on_ufs /jail 256m
mkdir -p /jail/$jail /jail/store
target "/jail/store $cfg nullfs rw 0 0"
must mount -t nullfs /jail/store $cfg
must cfgd jail init $jail
: >"$W/acknowledged"

# How long a save takes here: kills are spread over twice that.
edit $live default0 2
began=$(date +%s)
for i in 3 4 5 6 7; do
	edit $live default0 $i
	must cfgd save $jail
done
span=$((($(date +%s) - began + 1) * 2000 / 5))
n=7

# killed COMMAND... runs a command, kills it within the span, and says in $rc how it ended: 137 if by the
# kill.
killed() {
	"$@" >/dev/null 2>&1 &
	pid=$!
	sleep "$(jot -r 1 0 $span | awk '{ print $1 / 1000 }')"
	kill -9 $pid 2>/dev/null
	wait $pid
	rc=$?
}

# On a slow machine the time is up before all kills are done; those that were count.
kills=${CFGD_KILLS:-1000}
until=$(($(date +%s) + ${SCENARIO_SECONDS:-86400} - 300))
round=0
inside=0
bad=0
while [ $round -lt "$kills" ] && [ $bad -lt 3 ] && [ "$(date +%s)" -lt $until ]; do
	round=$((round + 1))
	: >"$W/now"
	for i in 1 2 3; do
		n=$((n + 1))
		f=$(some_name)
		edit $live "$f" $n
		echo "$f $n" >>"$W/now"
	done
	case $((round % 10)) in
	0) # both hooks: the second time they end well
		killed cfgd jail cleanup $jail
		[ $rc != 137 ] || inside=$((inside + 1))
		must cfgd jail cleanup $jail
		cat "$W/now" >>"$W/acknowledged"
		killed cfgd jail init $jail
		must cfgd jail init $jail
		newest "$W/acknowledged" >"$W/promised"
		whole $live "$round: /etc" || bad=$((bad + 1))
		at_least $live "$W/promised" "$round: /etc" || bad=$((bad + 1))
		;;
	5) # the daemon, which has said nothing
		mkdir -p /var/run/cfgd
		killed cfgd daemon
		[ $rc != 137 ] || inside=$((inside + 1))
		;;
	*)
		killed cfgd save $jail
		case $rc in
		0) cat "$W/now" >>"$W/acknowledged" ;;
		137) inside=$((inside + 1)) ;;
		*)
			notok "$round: a save after a kill" "it ended with $rc"
			bad=$((bad + 1))
			;;
		esac
		;;
	esac
	whole $cfg "$round: cfg" || bad=$((bad + 1))
	newest "$W/acknowledged" >"$W/promised"
	at_least $cfg "$W/promised" "$round: cfg" || bad=$((bad + 1))
done
echo "# $round kills, $inside of them before the command had ended"
holds "kills hit something" [ $inside -gt 0 ]
eq "nothing was torn, and nothing that was saved was lost" 0 $bad
ends "the last save is well" 0 cfgd save $jail
shape $live >"$W/shape.before"
must cfgd jail cleanup $jail
must cfgd jail init $jail
shape $live >"$W/shape.after"
eq "and the next start has all of it" "" "$(diff -u "$W/shape.before" "$W/shape.after")"
ends "status has no conflict" 0 cfgd status $jail
must cfgd jail cleanup $jail
finish
