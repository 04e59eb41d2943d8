#!/bin/sh
# A NanoBSD host on an MBR with boot0: a new image is installed, started, and left again. After each step the
# active flag and boot0's default name the same slice.
# shellcheck source=tests/freebsd/lib.sh
. "$(dirname "$0")/lib.sh"
. "$here/disk.sh"

begin "NanoBSD on an MBR"
[ -r /boot/boot0 ] || skip "there is no /boot/boot0"
disk 128m
drive=$md
must gpart create -s mbr "$drive"
must gpart bootcode -b /boot/boot0 "$drive"
must gpart add -t freebsd -s $image_size "$drive"
must gpart add -t freebsd -s $image_size "$drive"
must gpart add -t freebsd -s 16m "$drive"
must gpart set -a active -i 1 "$drive"
must gpart create -s bsd "${drive}s1"
must gpart add -t freebsd-ufs "${drive}s1"
must gpart bootcode -b /boot/boot "${drive}s1"
cfgdev=/dev/${drive}s3
must newfs $cfgdev
nano_machine
make_slice "${drive}s1a" one "/dev/${drive}s1a" $cfgdev
image_of "${drive}s1" "$W/image" two
gzip -1 "$W/image"

must boot0cfg -s 1 "$drive"
start_on "/dev/${drive}s1a" $cfgdev
ends "check finds nothing wrong" 0 cfgd check
has "the host is a target" "$out" '^host$'
has "its /etc is a tmpfs" "$out" 'live +/etc \(tmpfs\)'
ends "nano status" 0 cfgd nano status
has "names the slice that runs" "$out" "^${drive}s1 .*running, boots next"
edits_on_the_host

ends "a new image is prepared for" 0 cfgd host prepare "$W/image.gz"
has "the merge is shown" "$out" "merged +rc.conf"
ends "it is installed" 0 cfgd nano install "$W/image.gz"
boots_next 2 "installed"
root_reads "and the running system is there"
sound "the slice's filesystem is sound" "/dev/${drive}s2a"
eq "its fstab names its own slice" "/dev/${drive}s2a" "$(fstab_of "/dev/${drive}s2a" etc/fstab)"
eq "so does that of its defaults" "/dev/${drive}s2a" "$(fstab_of "/dev/${drive}s2a" conf/base/etc/fstab)"
eq "that of the running one is as it was" "/dev/${drive}s1a" "$(fstab_of "/dev/${drive}s1a" etc/fstab)"
ends "the running slice is refused" 2 cfgd nano install --slice 1 "$W/image.gz"
ends "an image that is cut off is refused" 2 sh -c \
	"gunzip <$W/image.gz | head -c 20000000 | cfgd nano install -"
boots_next 1 "after a bad image"
ends "it is installed once more" 0 cfgd nano install "$W/image.gz"
boots_next 2 "installed once more"
ends "rollback before the start" 0 cfgd nano rollback
boots_next 1 "rolled back"
ends "activate" 0 cfgd nano activate 2
boots_next 2 "activated"

start_on "/dev/${drive}s2a" $cfgdev
merged two
has "the second slice runs" "$(state s2)" "running, boots next"
ends "confirm" 0 cfgd nano confirm
boots_next 2 "confirmed"
echo "10.0.0.2 since" >>/etc/hosts
eventually "an edit on the new one is saved" 60 saved_in_cfg hosts
ends "rollback" 0 cfgd nano rollback
boots_next 1 "rolled back from the new one"
start_on "/dev/${drive}s1a" $cfgdev
merged one
has "with the edit that was made on the other" "$(cat /etc/hosts)" "^10.0.0.2 since"
holds "and without what only that had" gone /etc/new-default

# The two may differ after a hand that knows only one of them.
must boot0cfg -s 2 "$drive"
must gpart set -a active -i 1 "$drive"
if [ "$(boot0cfg -v "$drive" | sed -n 's/^default_selection=\(F[0-9]\).*/\1/p')" = F2 ]; then
	out=$(cfgd nano status 2>&1)
	has "status says that the flag and boot0 differ" "$out" "boot0"
fi
ends "activate brings them together" 0 cfgd nano activate 1
boots_next 1 "brought together"
service cfgd stop >/dev/null
finish
