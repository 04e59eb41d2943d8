#!/bin/sh
# The disk of cfg is taken away at random instants while files are edited and saved, as a power cut does: what was written
# until then is there, and nothing after. It is a file behind md(4), which is detached by force. After fsck(8) no file is
# torn, and what cfgd save had called saved is there.
# CFGD_CUTS says how often, 20 if not set.
# shellcheck source=tests/freebsd/lib.sh
. "$(dirname "$0")/lib.sh"
. "$here/versions.sh"

jail=cfgdtest1
live=/jail/$jail/etc
cfg=/jail/$jail/cfg

begin "power cuts"
mkdir -p /jail/$jail
truncate -s 16m "$W/disk"
target "/dev/none $cfg ufs rw 0 0"
: >"$W/acknowledged"

attach() {
	md=$(mdconfig -a -t vnode -f "$W/disk") || bail "attach the disk"
}
# cut detaches the disk whatever happens on it, and what stood on it cannot be written any more.
cut() {
	mdconfig -d -u "${md#md}" -o force
	umount -f $cfg 2>/dev/null
	md=
}
later "[ -z \"\$md\" ] || mdconfig -d -u \${md#md} -o force"

# writer edits and saves until the disk goes. A save that ended 0 is promised.
writer() {
	n=$1
	while :; do
		n=$((n + 1))
		f=$(some_name)
		edit $live "$f" $n || return
		echo $n >"$W/last"
		cfgd save $jail >/dev/null 2>&1 || return
		echo "$f $n" >>"$W/acknowledged"
	done
}

attach
must newfs -U "/dev/$md"
mdconfig -d -u "${md#md}"
echo 1 >"$W/last"
cuts=${CFGD_CUTS:-20}
round=0
bad=0
while [ $round -lt "$cuts" ] && [ $bad -lt 3 ]; do
	round=$((round + 1))
	attach
	# Journaled soft updates every second time: fsck(8) then trusts the journal.
	journal=disable
	if [ $((round % 2)) = 0 ]; then
		journal=enable
	fi
	if ! fsck_ffs -y "/dev/$md" >"$W/fsck" 2>&1; then
		notok "$round: fsck" "$(cat "$W/fsck")"
		bad=$((bad + 1))
	fi
	tunefs -j $journal "/dev/$md" >/dev/null 2>&1
	must mount "/dev/$md" $cfg
	whole $cfg "$round: before cfgd looks" || bad=$((bad + 1))
	ends "$round: the start is well" 0 cfgd jail init $jail
	newest "$W/acknowledged" >"$W/promised"
	whole $live "$round: /etc" || bad=$((bad + 1))
	at_least $live "$W/promised" "$round" || bad=$((bad + 1))
	ends "$round: nothing is unsaved" 0 cfgd diff --unsaved $jail
	ends "$round: the history can be read" 0 cfgd log $jail
	writer "$(cat "$W/last")" &
	writing=$!
	sleep "$(jot -r 1 3 60 | awk '{ print $1 / 10 }')"
	cut
	wait $writing
	# The machine that comes up has no memory.
	umount -f $live
	rm -rf /var/run/cfgd
done
acknowledged=$(wc -l <"$W/acknowledged" | tr -d ' ')
echo "# $round cuts, $acknowledged saves had ended 0"
holds "something was saved between the cuts" [ "$acknowledged" -ge "$round" ]
eq "nothing was torn, and nothing that was saved was lost" 0 $bad
finish
