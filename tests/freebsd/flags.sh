#!/bin/sh
# File flags, hard links and extended attributes of a saved /etc, and a daemon that is killed. What is kept
# comes back, and what cfgd-store(5) says is not kept does not.
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
	for f in uchg schg uappnd sappnd uunlnk sunlnk nodump; do
		echo $f >flags/$f
		chflags $f flags/$f
	done
	for f in arch uarch hidden system; do
		echo $f >flags/not-kept-$f
		chflags $f flags/not-kept-$f
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
	setextattr system cfgdtest s hosts
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
	done
}
# flags_of PATTERNS prints the flags of files, one a line.
flags_of() { (cd $live/flags && stat -f '%N %Sf' $1); }
attributes >"$W/attributes.before"
eq "there are attributes to lose" 3 "$(wc -l <"$W/attributes.before" | tr -d ' ')"
has "and one of the system" "$(lsextattr -q system $live/hosts)" cfgdtest
kept='nodump nodump
sappnd sappnd
schg schg
sunlnk sunlnk
uappnd uappnd
uchg uchg
uunlnk uunlnk'
eq "and flags" "$kept" "$(flags_of 'nodump s* u*')"
eq "that are not kept as well" "not-kept-arch arch
not-kept-hidden hidden
not-kept-system system
not-kept-uarch uarch" "$(flags_of 'not-kept-*')"
shape $live >"$W/shape.before"
must service jail stop $jail
eq "nothing of it is mounted" "" "$(mount -p | awk '{ print $2 }' | grep "^/jail/$jail")"
by_rc start $jail
holds "the jail starts with them" runs $jail
shape $live >"$W/shape.after"
eq "mode, owner, flags and time are back" "" "$(diff -u "$W/shape.before" "$W/shape.after")"
attributes >"$W/attributes.after"
eq "and the attributes" "" "$(diff -u "$W/attributes.before" "$W/attributes.after")"
eq "every flag that is kept is there" "$kept" "$(flags_of 'nodump s* u*')"
eq "the other flags are not" "- - - -" "$(flags_of 'not-kept-*' | awk '{ print $2 }' | xargs)"
hasnt "nor the attribute of the system" "$(lsextattr -q system $live/hosts)" cfgdtest
ends "nothing is unsaved" 0 cfgd diff --unsaved $jail

# A tmpfs has the same flags.
sed -i '' 's/"md"/"tmpfs"/' /usr/local/etc/cfgd.toml
must service cfgd reload
by_rc restart $jail
eq "/etc is a tmpfs" tmpfs "$(mounted_as $live)"
shape $live >"$W/shape.after"
eq "mode, owner, flags and time are back on it" "" "$(diff -u "$W/shape.before" "$W/shape.after")"
ends "nothing is unsaved there" 0 cfgd diff --unsaved $jail
# Where a tmpfs holds attributes, a change of them alone is saved: it moves no time of the file.
if setextattr user alone x $live/hosts 2>/dev/null; then
	eventually "an attribute alone is saved" 60 sh -c "getextattr -q user alone $cfg/hosts"
	must rmextattr user alone $live/hosts
	eventually "and its removal" 60 sh -c "! getextattr -q user alone $cfg/hosts"
else
	echo "# this tmpfs holds no attributes"
fi
sed -i '' 's/"tmpfs"/"md"/' /usr/local/etc/cfgd.toml
must service cfgd reload
by_rc restart $jail
eq "/etc is on an md again" ufs "$(mounted_as $live)"
attributes >"$W/attributes.after"
eq "with the attributes that a tmpfs may not have had" "" \
	"$(diff -u "$W/attributes.before" "$W/attributes.after")"

# They go again.
must chflags -R 0 $live/flags
must rm -rx $live/flags
must rmextattr user note $live/hosts
# Most of what was saved is gone at once: that waits for somebody who means it.
eventually "the removal is held" 60 sh -c "cfgd status $jail 2>&1 | grep -q 'save held'"
ends "until it is said to be meant" 0 cfgd save --force $jail
holds "the removal is saved" gone $cfg/flags
eventually "all of it" 60 all_saved $jail
by_rc restart $jail
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
	eventually "$i: another daemon is there" 30 sh -c \
		"p=\$(cat /var/run/cfgd/cfgd.pid) && [ \$p != $pid ] && kill -0 \$p"
	echo "10.3.0.$i" >>$live/hosts
	eventually "$i: it saves what was edited before, between and after" 30 same $live/hosts $cfg/hosts
done
eventually "nothing is unsaved" 30 all_saved $jail
ends "status says that it watches" 0 cfgd status $jail
must service jail stop $jail
must service cfgd stop
finish
