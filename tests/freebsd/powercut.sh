#!/bin/sh
# A power cut while files are edited and saved, in two ways. The disk of cfg, a file behind md(4), is detached
# by force at a random instant: what was written until then is there, and nothing after. And at random
# instants the machine comes up from a copy of that file: it lies on a UFS whose snapshot, mksnap_ffs(8), has
# all of it of one instant, as no cp(1) of a file that is written has. After fsck(8) no file is torn, and what
# cfgd save had called saved before is there. CFGD_CUTS says how often it is detached, 20 if not set. There
# are two copies before each.
# shellcheck source=tests/freebsd/lib.sh
. "$(dirname "$0")/lib.sh"
. "$here/versions.sh"

jail=cfgdtest1
live=/jail/$jail/etc
cfg=/jail/$jail/cfg

begin "power cuts"
on_ufs "$W/outer" 128m
disk_file=$W/outer/disk
truncate -s 16m "$disk_file"
mkdir "$W/frozen"
target "/dev/none $cfg ufs rw 0 0"
: >"$W/acknowledged"

# cut detaches the disk whatever happens on it, and what stood on it cannot be written any more.
cut() {
	mdconfig -d -u "${cfg_disk#md}" -o force
	umount -f $cfg 2>/dev/null
	[ "$(mounts_on $cfg)" = 0 ] || bail "unmount $cfg, whose disk is gone"
}

# forget is the end of a machine's memory.
forget() {
	umount -f $live
	rm -rfx /var/run/cfgd
}

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

# some_time is at most six seconds.
some_time() { sleep "$(jot -r 1 3 60 | awk '{ print $1 / 10 }')"; }

# copy N keeps in $W/copy.N the disk as it is at one instant, and in $W/promised.N what had been called saved
# before.
copy() {
	newest "$W/acknowledged" >"$W/promised.$1"
	must mksnap_ffs "$W/outer/.snap/now"
	attach -t vnode -o readonly -f "$W/outer/.snap/now"
	must mount -o ro "/dev/$md" "$W/frozen"
	must cp "$W/frozen/disk" "$W/copy.$1"
	must umount "$W/frozen"
	must mdconfig -d -u "${md#md}"
	must rm -f "$W/outer/.snap/now"
}

# comes_up FILE PROMISED WHAT: the machine starts from a disk, and has what was promised. The disk's name is
# in $cfg_disk.
comes_up() {
	attach -t vnode -f "$1"
	cfg_disk=$md
	if ! fsck_ffs -y "/dev/$cfg_disk" >"$W/fsck" 2>&1; then
		notok "$3: fsck" "$(cat "$W/fsck")"
		bad=$((bad + 1))
	fi
	tunefs -j $journal "/dev/$cfg_disk" >/dev/null 2>&1
	must mount "/dev/$cfg_disk" $cfg
	whole $cfg "$3: before cfgd looks" || bad=$((bad + 1))
	ends "$3: the start is well" 0 cfgd jail init $jail
	whole $live "$3: /etc" || bad=$((bad + 1))
	at_least $live "$2" "$3" || bad=$((bad + 1))
	ends "$3: nothing is unsaved" 0 cfgd diff --unsaved $jail
	ends "$3: the history can be read" 0 cfgd log $jail
}

attach -t vnode -f "$disk_file"
must newfs -U "/dev/$md"
must mdconfig -d -u "${md#md}"
echo 1 >"$W/last"
cuts=${CFGD_CUTS:-20}
round=0
bad=0
promised=0
while [ $round -lt "$cuts" ] && [ $bad -lt 3 ]; do
	round=$((round + 1))
	# Journaled soft updates every second time: fsck(8) then trusts the journal.
	journal=disable
	if [ $((round % 2)) = 0 ]; then
		journal=enable
	fi
	newest "$W/acknowledged" >"$W/promised"
	comes_up "$disk_file" "$W/promised" "$round"
	writer "$(cat "$W/last")" &
	writing=$!
	for k in 1 2; do
		some_time
		copy $k
	done
	kill -0 $writing || notok "$round: edits are saved until the cut"
	some_time
	cut
	wait $writing
	forget
	for k in 1 2; do
		promised=$((promised + $(wc -l <"$W/promised.$k")))
		comes_up "$W/copy.$k" "$W/promised.$k" "$round, copy $k"
		must umount $cfg
		must mdconfig -d -u "${cfg_disk#md}"
		forget
	done
done
acknowledged=$(wc -l <"$W/acknowledged" | tr -d ' ')
echo "# $round cuts and $((2 * round)) copies, $acknowledged saves had ended 0;" \
	"the copies had $promised promises to keep"
holds "something was saved between the cuts" [ "$acknowledged" -ge "$round" ]
eq "nothing was torn, and nothing that was saved was lost" 0 $bad
finish
