# What a machine does that boots from a disk of boot: at the end of each start it checks how it came up, does
# what an administrator would do next, and restarts. All of it is real: boot0 or gptboot(8), the loader, the
# kernel, rc.initdiskless(8), rc.d/gptboot, shutdown(8). A stage that cannot go on turns the machine off, and
# so does the last one.
#
# /data is no part of the systems: what is here, the image, the number of the stage, and in tap what was
# printed.
# shellcheck source=tests/freebsd/lib.sh
. /data/lib.sh
# shellcheck source=tests/freebsd/disk.sh
. /data/disk.sh
# shellcheck source=/dev/null
. /data/settings # scheme, drive, letter, part, first, second, cfgdev

PATH=/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin
TMPDIR=/data
CFGD_PATIENCE=${CFGD_PATIENCE:-5}
export PATH TMPDIR CFGD_PATIENCE
W=$(mktemp -d /tmp/stages.XXXXXX) || exit
mkdir "$W/slice" "$W/saved"
stage=$(cat /data/stage 2>/dev/null || echo 1)
checks=$(cat /data/checks 2>/dev/null || echo 0)
failures=$(cat /data/failures 2>/dev/null || echo 0)

# leave HOW... ends this start of the machine, and the script with it.
leave() {
	trap - EXIT
	echo $checks >/data/checks
	echo $failures >/data/failures
	sync
	shutdown "$@" now
	sleep 600
	exit 1
}
trap 'leave -p' EXIT

# restart: the next start goes on with the next stage.
restart() {
	echo "# stage $stage ends $(($(date +%s) - started)) s after its beginning," \
		"$(sysctl -n kern.boottime | awk '{ print $4 }' | tr -d ,) booted"
	leave -r
}

# A panic, or a slice that resets the machine, starts a stage anew: not for ever.
starts=$(($(cat /data/starts 2>/dev/null || echo 0) + 1))
echo $starts >/data/starts
started=$(date +%s)
echo $((stage + 1)) >/data/stage
echo "# stage $stage, start $starts: $(uname -r) from $(kenv -q currdev)," \
	"/ on $(mount -p | awk '$2 == "/" { print $1 }')"
[ $starts -lt 20 ] || bail "the machine started $starts times"

# runs_from N RELEASE: all of the system that is up is of a slice: what the loader read, and what is mounted.
runs_from() {
	has "the loader is that of slice $1" "$(kenv currdev)" "^disk[0-9]+$letter$1$part:"
	eq "what it read is of release $2" "$2" "$(kenv cfgd_release)"
	eq "the kernel is what it started" /boot/kernel/kernel "$(sysctl -n kern.bootfile)"
	eq "/ is on the slice" "/dev/$drive$letter$1$part" "$(mount -p | awk '$2 == "/" { print $1 }')"
	has "read-only" "$(mount -p | awk '$2 == "/" { print $4 }')" '(^|,)ro(,|$)'
	has "and /etc in memory" "$(mounted_as /etc)" '^(tmpfs|ufs)$'
	holds "the daemon runs" service cfgd status
	has "nano status names what runs" "$(state "$letter$1")" "running"
	hasnt "and nothing else" "$(state "$letter$((first + second - $1))")" "running"
	merged_or_new "$2"
	root_is_whole
}

# merged_or_new RELEASE: before the first edit there is nothing to merge.
merged_or_new() {
	if [ "$stage" -gt 1 ]; then
		merged "$1"
		return
	fi
	eq "/etc is of release $1" "$1" "$(cat /etc/release)"
	ends "check finds nothing wrong" 0 cfgd check
}

# root_is_whole: all of / can be read. What took its slice away would be seen here.
root_is_whole() {
	holds "all of / can be read" sh -c 'find /boot /usr/sbin /conf -type f -exec cat {} + >/dev/null'
}

# installs puts the image into the slice that does not run.
installs() {
	ends "the image is installed" 0 cfgd nano install /data/image.gz
	said "$out"
	root_is_whole
}

# said TEXT prints what cfgd said, as a comment.
said() { printf '%s\n' "$1" | tr '\r' '\n' | grep -v '%' | sed 's/^/# | /'; }

# shows prints what there is to know of the slices.
shows() {
	said "$(cfgd nano status 2>&1)"
	said "$(gpart show "$drive")"
}

on_trial() {
	has "$1" "$(cfgd report --always 2>&1)" "on trial"
}
no_trial() {
	hasnt "$1" "$(cfgd report --always 2>&1)" "on trial"
}

mbr_stages() {
	case $stage in
	1)
		runs_from 1 one
		boots_next 1 "at first"
		printf '[host]\ntrial = "30m"\n' >/etc/local/cfgd.toml
		edits_on_the_host
		ends "what the image will make of the edits is shown" 0 cfgd host prepare /data/image.gz
		has "the merge is" "$out" "merged +rc.conf"
		installs
		boots_next 2 "installed"
		sound "its filesystem is sound" "/dev/${drive}s2a"
		shows
		restart
		;;
	2)
		runs_from 2 two
		boots_next 2 "started"
		on_trial "the report says that it is on trial"
		ends "confirm" 0 cfgd nano confirm
		said "$out"
		no_trial "it is not any more"
		boots_next 2 "confirmed"
		echo "10.0.0.2 since" >>/etc/hosts
		eventually "an edit on the new one is saved" 60 saved_in_cfg hosts
		ends "rollback" 0 cfgd nano rollback
		said "$out"
		boots_next 1 "rolled back"
		shows
		restart
		;;
	3)
		runs_from 1 one
		has "with the edit that was made on the other" "$(cat /etc/hosts)" "^10.0.0.2 since"
		holds "and without what only that had" gone /etc/new-default
		ends "activate" 0 cfgd nano activate 2
		boots_next 2 "activated"
		restart
		;;
	4)
		runs_from 2 two
		no_trial "what was confirmed is on no trial"
		ends "the way back" 0 cfgd nano activate 1
		boots_next 1 "activated"
		restart
		;;
	5)
		runs_from 1 one
		printf '[host]\ntrial = "3m"\n' >/etc/local/cfgd.toml
		eventually "the setting is saved" 60 saved_in_cfg local/cfgd.toml
		installs
		boots_next 2 "installed once more"
		restart
		;;
	6)
		runs_from 2 two
		on_trial "it is on trial, and nobody confirms it"
		shows
		echo "# the daemon is to restart the machine"
		trap - EXIT
		echo $checks >/data/checks
		echo $failures >/data/failures
		sync
		sleep 600
		notok "the daemon restarts the machine in time"
		;;
	7)
		runs_from 1 one
		boots_next 1 "gone back"
		no_trial "nothing is on trial"
		shows
		;;
	esac
}

# left_alone WHAT: gptboot's attributes are those of a first slice that boots, and of nothing to try:
# rc.d/gptboot has taken away what the loader left. Its own words about that are no check: where rc(8) starts
# it before syslogd(8) they are lost.
left_alone() {
	eq "$1: the first boots" bootme "$(marks 2)"
	eq "$1: the second has no mark" "" "$(marks 3)"
}
# tries WHAT: the second boots once.
tries() {
	eq "$1: the second boots once" "bootme bootonce" "$(marks 3)"
	eq "$1: the first after it" bootme "$(marks 2)"
	has "$1: nano status says it" "$(state p3)" "boots next, once"
}

gpt_stages() {
	case $stage in
	1)
		runs_from 2 one
		left_alone "at first"
		edits_on_the_host
		ends "what the image will make of the edits is shown" 0 cfgd host prepare /data/image.gz
		has "the merge is" "$out" "merged +rc.conf"
		installs
		tries "installed"
		sound "its filesystem is sound" "/dev/${drive}p3"
		shows
		restart
		;;
	2)
		runs_from 3 two
		left_alone "started once"
		has "nano status: it is on trial" "$(state p3)" "running, on trial"
		has "and the first boots next" "$(state p2)" "boots next"
		on_trial "the report says so"
		shows
		ends "confirm" 0 cfgd nano confirm
		said "$out"
		eq "confirmed: it boots" bootme "$(marks 3)"
		eq "and the first does not" "" "$(marks 2)"
		restart
		;;
	3)
		runs_from 3 two
		has "nano status says that it stays" "$(state p3)" "running, boots next"
		no_trial "it is on trial no more"
		echo "10.0.0.2 since" >>/etc/hosts
		eventually "an edit on the new one is saved" 60 saved_in_cfg hosts
		ends "rollback" 0 cfgd nano rollback
		said "$out"
		left_alone "rolled back"
		restart
		;;
	4)
		runs_from 2 one
		has "with the edit that was made on the other" "$(cat /etc/hosts)" "^10.0.0.2 since"
		holds "and without what only that had" gone /etc/new-default
		installs
		tries "installed once more"
		restart
		;;
	5)
		runs_from 3 two
		left_alone "started once more"
		echo "# nobody confirms it"
		restart
		;;
	6)
		runs_from 2 one
		left_alone "gone back"
		shows
		installs
		must mount "/dev/${drive}p3" "$W/slice"
		must rm "$W/slice/boot/loader" "$W/slice/boot/kernel/kernel"
		must umount "$W/slice"
		tries "with nothing that can be started"
		restart
		;;
	7)
		runs_from 2 one
		left_alone "fallen back"
		shows
		has "nano status says that it failed" "$(state p3)" "failed to boot"
		has "and so does the report" "$(cfgd report --always 2>&1)" "${drive}p3.*did not boot"
		;;
	esac
}

${scheme}_stages
echo "1..$checks"
echo "# $failures of $checks failed, in $starts starts"
