#!/bin/sh
# File flags, hard links and extended attributes of a saved /etc, and a daemon that is killed.
# shellcheck source=tests/freebsd/lib.sh
. "$(dirname "$0")/lib.sh"
. "$here/one.sh"

begin "flags, hard links, extended attributes, a killed daemon"
[ "$(sysctl -n kern.securelevel)" -le 0 ] || skip "kern.securelevel lets nobody clear schg"
one_jail md

# The flags of a file are set when all of it is there, and its links.
(
	set -e
	cd $live
	mkdir flags flags/dir
	for f in uchg schg uappnd sappnd uunlnk sunlnk nodump arch hidden; do
		echo $f >flags/$f
		chflags $f flags/$f
	done
	echo linked >flags/one
	ln flags/one flags/two
	chflags uchg flags/one
	echo linked >flags/three
	ln flags/three flags/four
	chflags schg flags/four
	echo below >flags/dir/file
	chmod 4711 flags/dir/file
	chown 3:5 flags/dir/file
	chmod 1770 flags/dir
	touch -t 199001020304.05 flags/dir/file
	setextattr user note 'a note' hosts
	setextattr user binary "$(printf 'x\001y')" flags/dir/file
	setextattr system own s hosts
	setextattr user ondir d flags/dir
	chflags uchg flags/dir
) >"$W/made" 2>&1 || bail "make files with flags" "$(cat "$W/made")"
eventually "all of it is saved" 60 all_saved $jail
ends "and nothing is unsaved" 0 cfgd diff --unsaved $jail
attributes() {
	for f in hosts flags/dir flags/dir/file; do
		for n in $(lsextattr -q user $live/$f); do
			echo "$f user.$n $(getextattr -q user "$n" $live/$f)"
		done
		for n in $(lsextattr -q system $live/$f); do
			echo "$f system.$n $(getextattr -q system "$n" $live/$f)"
		done
	done
}
attributes >"$W/attributes.before"
eq "there are attributes to lose" 4 "$(wc -l <"$W/attributes.before" | tr -d ' ')"
shape $live >"$W/shape.before"
must service jail stop $jail
eq "nothing of it is mounted" "" "$(mount -p | awk '{ print $2 }' | grep "^/jail/$jail")"
start_jail $jail
shape $live >"$W/shape.after"
eq "mode, owner, flags and time are back" "" "$(diff -u "$W/shape.before" "$W/shape.after")"
attributes >"$W/attributes.after"
eq "and the attributes" "" "$(diff -u "$W/attributes.before" "$W/attributes.after")"
ends "nothing is unsaved" 0 cfgd diff --unsaved $jail

# They go again.
must chflags -R 0 $live/flags
must rm -r $live/flags
must rmextattr user note $live/hosts
eventually "the removal is saved" 60 sh -c "[ ! -e $cfg/flags ]"
eventually "all of it" 60 all_saved $jail
start_jail $jail restart
holds "what was removed stays so" gone $live/flags
eq "and so does an attribute" "" "$(lsextattr -q user $live/hosts)"

# daemon(8) starts a daemon anew that was killed, and what was edited meanwhile is saved.
i=0
while [ $i -lt 10 ]; do
	i=$((i + 1))
	pid=$(cat /var/run/cfgd/cfgd.pid)
	echo "10.1.0.$i" >>$live/hosts
	kill -9 "$pid"
	echo "10.2.0.$i" >>$live/hosts
	eventually "$i: another daemon is there" 30 sh -c "p=\$(cat /var/run/cfgd/cfgd.pid) && [ \$p != $pid ] && kill -0 \$p"
	echo "10.3.0.$i" >>$live/hosts
	eventually "$i: it saves what was edited before, between and after" 30 same $live/hosts $cfg/hosts
done
eventually "nothing is unsaved" 30 all_saved $jail
ends "status says that it watches" 0 cfgd status $jail
must service jail stop $jail
must service cfgd stop
finish
