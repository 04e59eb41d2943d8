#!/bin/sh
# NanoBSD hosts whose disks are named by labels: as nanobsd.sh(8) with NANO_LABEL lays them out, and as BSDRP
# and poudriere-image(8) do.
# shellcheck source=tests/freebsd/lib.sh
. "$(dirname "$0")/lib.sh"
. "$here/disk.sh"

begin "NanoBSD by labels"
nano_machine

# upgrade FIRST SECOND: an image goes from the first slice, which runs, to the second, and back.
upgrade() { # names as fstab has them, what status calls them, and the plain names of the same
	start_on "/dev/$1" $cfgdev
	ends "$1: nano status" 0 cfgd nano status
	has "$1: runs" "$out" "running, boots next"
	ends "$1: check finds nothing wrong" 0 cfgd check
	edits_on_the_host
	ends "$1: an image is installed" 0 cfgd nano install "$W/image"
	root_reads "$1: the running system is there"
	eq "$2: its fstab names its own slice" "/dev/$2" "$(fstab_of "/dev/$2" etc/fstab)"
	sound "$2: its filesystem is sound" "/dev/$2"
	ends "$2: status" 0 cfgd nano status
	start_on "/dev/$2" $cfgdev
	merged two
	ends "$2: confirm" 0 cfgd nano confirm
	has "$2: boots from now on" "$(cfgd nano status)" "running, boots next"
	ends "$2: rollback" 0 cfgd nano rollback
	start_on "/dev/$1" $cfgdev
	merged one
	service cfgd stop >/dev/null
	must umount "$W/root"
	running=
	fresh_etc
	cp -Rp /conf/base/etc/. /etc/
}

# NANO_LABEL of nanobsd.sh: an MBR, filesystems with the label and the slice's name.
disk 128m
first=$md
must gpart create -s mbr "$first"
[ ! -r /boot/boot0 ] || must gpart bootcode -b /boot/boot0 "$first"
must gpart add -t freebsd -s $image_size "$first"
must gpart add -t freebsd -s $image_size "$first"
must gpart add -t freebsd -s 16m "$first"
must gpart set -a active -i 1 "$first"
for s in 1 2; do
	must gpart create -s bsd "${first}s$s"
	must gpart add -t freebsd-ufs "${first}s$s"
	must gpart bootcode -b /boot/boot "${first}s$s"
done
drive=ufs/cfgdtest
cfgdev=/dev/ufs/cfgdtests3
must newfs -L cfgdtests3 "/dev/${first}s3"
make_slice "${first}s1a" one /dev/ufs/cfgdtests1a $cfgdev cfgdtests1a
image_of "${first}s1" "$W/image" two
upgrade ufs/cfgdtests1a ufs/cfgdtests2a
must mdconfig -d -u "${first#md}" -o force

# GPT, the partitions named by their labels, a bare filesystem in each.
disk 160m
second=$md
must gpart create -s gpt "$second"
loaders "$second"
must gpart add -t freebsd-ufs -s $image_size -l cfgdtest1 "$second"
must gpart add -t freebsd-ufs -s $image_size -l cfgdtest2 "$second"
must gpart add -t freebsd-ufs -s 16m -l cfgdtestcfg "$second"
must gpart set -a bootme -i 3 "$second"
drive=gpt/cfgdtest
cfgdev=/dev/gpt/cfgdtestcfg
must newfs $cfgdev
make_slice gpt/cfgdtest1 one /dev/gpt/cfgdtest1 $cfgdev
image_of gpt/cfgdtest1 "$W/image" two
upgrade gpt/cfgdtest1 gpt/cfgdtest2
finish
