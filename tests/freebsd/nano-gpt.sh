#!/bin/sh
# A NanoBSD host on a GPT with gptboot(8): a new image boots once, until it is confirmed. What gptboot and
# rc.d/gptboot do to the partitions' attributes is done here by gpart(8), after their sources.
# shellcheck source=tests/freebsd/lib.sh
. "$(dirname "$0")/lib.sh"
. "$here/disk.sh"

begin "NanoBSD on a GPT"
nano_machine
disk 160m
drive=$md
must gpart create -s gpt "$drive"
loaders "$drive"
must gpart add -t freebsd-ufs -s $image_size "$drive"
must gpart add -t freebsd-ufs -s $image_size "$drive"
must gpart add -t freebsd-ufs -s 16m -l cfg "$drive"
must gpart set -a bootme -i 3 "$drive"
cfgdev=/dev/${drive}p5
must newfs $cfgdev
make_slice "${drive}p3" one "/dev/${drive}p3" $cfgdev
image_of "${drive}p3" "$W/image" two

# gptboot boots: what was to boot once and did not say that it came up has failed. It takes the first
# partition that has bootme and bootonce, whose bootme it takes off; else the first that has bootme alone;
# else the first. Its number is in $booted.
gptboot() {
	attributes | while read -r i a; do
		case $a in
		*,bootme,* | *,bootfailed,*) ;;
		*,bootonce,*)
			gpart unset -a bootonce -i "$i" "$drive"
			gpart set -a bootfailed -i "$i" "$drive"
			;;
		esac >/dev/null
	done
	booted=$(attributes | awk '/,bootme,/ && /,bootonce,/ { print $1; exit }')
	if [ -n "$booted" ]; then
		gpart unset -a bootme -i "$booted" "$drive" >/dev/null
		return
	fi
	booted=$(attributes | awk '/,bootme,/ && !/,bootonce,/ { print $1; exit }')
	if [ -z "$booted" ]; then
		booted=$(attributes | awk '{ print $1; exit }')
	fi
}
# came_up is rc.d/gptboot, late in the start: a partition that booted once has said so, and one that failed is
# told.
came_up() {
	attributes | while read -r i a; do
		case $a in
		*,bootme,*) ;;
		*,bootfailed,*) gpart unset -a bootfailed -i "$i" "$drive" ;;
		*,bootonce,*) gpart unset -a bootonce -i "$i" "$drive" ;;
		esac >/dev/null
	done
}
start() {
	gptboot
	start_on "/dev/${drive}p$booted" $cfgdev
	came_up
}

start
eq "the first partition boots at first" 3 "$booted"
edits_on_the_host
ends "nano status" 0 cfgd nano status
has "names the partition that runs" "$out" "^${drive}p3 .*running, boots next"
ends "an image is installed" 0 cfgd nano install "$W/image"
eq "the new one boots once" "bootme bootonce" "$(marks 4)"
root_reads "the running system is there"
eq "and the old one after it" bootme "$(marks 3)"
has "status says so" "$(state p4)" "boots next"
sound "its filesystem is sound" "/dev/${drive}p4"
eq "its fstab names its own partition" "/dev/${drive}p4" "$(fstab_of "/dev/${drive}p4" etc/fstab)"
ends "it may be called off" 0 cfgd nano rollback
eq "then it has no mark" "" "$(marks 4)"
eq "and the old one boots" bootme "$(marks 3)"
ends "installed once more" 0 cfgd nano install "$W/image"
eq "it boots once again" "bootme bootonce" "$(marks 4)"

start
eq "the new one is started" 4 "$booted"
merged two
start
eq "nobody confirmed it: the old one is started" 3 "$booted"
merged one

ends "installed a third time" 0 cfgd nano install "$W/image"
start
eq "the new one is started" 4 "$booted"
ends "confirm" 0 cfgd nano confirm
eq "it boots from now on" bootme "$(marks 4)"
eq "and the old one does not" "" "$(marks 3)"
start
eq "it is started again" 4 "$booted"
merged two
has "status says that it stays" "$(state p4)" "running, boots next"
ends "rollback" 0 cfgd nano rollback
start
eq "the old one is started" 3 "$booted"
merged one
ends "activate" 0 cfgd nano activate 4
start
eq "the new one is started" 4 "$booted"
merged two
service cfgd stop >/dev/null
finish
