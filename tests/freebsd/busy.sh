#!/bin/sh
# A process of the host's has a file of the jail's /etc open when the jail stops: its memory cannot be
# unmounted then, and jail(8) goes on and unmounts cfg. Nothing that was edited is lost.
# shellcheck source=tests/freebsd/lib.sh
. "$(dirname "$0")/lib.sh"
. "$here/one.sh"

begin "a jail stops while its /etc is busy"
one_jail tmpfs

for memory in tmpfs md; do
	must in_jail $jail "echo '10.0.0.1 $memory' >> /etc/hosts; echo $memory > /etc/busy.conf"
	tail -f $live/hosts >/dev/null &
	holder=$!
	service jail stop $jail >"$W/stop" 2>&1
	fails "$memory: the jail is stopped" runs $jail
	eq "$memory: its /etc is still mounted" 1 "$(mount -p | awk -v d=$live '$2 == d' | wc -l | tr -d ' ')"
	# What is written into it now is not lost either.
	echo "10.0.0.9 after the stop of $memory" >>$live/hosts
	kill $holder
	wait $holder 2>/dev/null
	ends "$memory: a cleanup by hand takes it away" 0 cfgd jail cleanup $jail
	eq "$memory: nothing of it is mounted" "" "$(mount -p | awk '{ print $2 }' | grep "^/jail/$jail/etc")"
	for d in $(mount -p | awk '{ print $2 }' | grep "^/jail/$jail" | tail -r); do
		umount "$d"
	done
	sed -i '' "s/\"$memory\"/\"md\"/" /usr/local/etc/cfgd.toml
	service cfgd reload >/dev/null
	by_rc start $jail
	holds "$memory: the jail starts again" runs $jail
	if cfgd rescue list | grep -q "^$jail "; then
		# What could not reach cfg is named, and comes back by hand where it did not by itself.
		archive=$(cfgd rescue list | awk -v j=$jail '$1 == j { print $NF }' | tail -1)
		if ! grep -q "after the stop of $memory" $live/hosts; then
			ends "$memory: the archive comes back" 0 cfgd rescue restore $jail "$archive"
		fi
	fi
	has "$memory: the last edit before the stop is there" "$(cat $live/hosts)" "^10.0.0.1 $memory"
	eq "$memory: and the new file" $memory "$(cat $live/busy.conf)"
	has "$memory: and what was written after it" "$(cat $live/hosts)" "^10.0.0.9 after the stop of $memory"
	eventually "$memory: all is saved" 30 all_saved $jail
done
must service jail stop $jail
must service cfgd stop
finish
