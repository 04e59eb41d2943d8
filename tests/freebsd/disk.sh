# A NanoBSD host on a memory disk, for the scenarios of nano. It is read after lib.sh.
#
# Nothing is booted: the slice that runs is the one that /etc/fstab names for /, and /etc is the tmpfs that
# covers the machine's own. start_on does what the loader and rc.initdiskless(8) do: it fills /etc from a
# slice and from /cfg. What boots next is read from the disk, as boot0 and gptboot(8) read it.

image_size=40m

# contents DIR RELEASE ROOT CFG puts a system as nanobsd.sh(8) makes it into a directory: small, and of this
# machine's /etc.
contents() {
	mkdir -p "$1/conf/base" "$1/conf/default/etc" "$1/boot/kernel" "$1/boot/defaults" "$1/cfg" "$1/sbin" \
		"$1/bin"
	cp /boot/loader "$1/boot/" 2>/dev/null || cp /bin/sh "$1/boot/loader"
	cp "$1/boot/loader" "$1/boot/loader.efi"
	cp /bin/sh "$1/boot/kernel/kernel"
	cp /bin/sh "$1/sbin/init"
	cp -Rp /etc "$1/conf/base/etc"
	rm -rf "$1/conf/base/etc/.cfgd"
	cat >"$1/conf/base/etc/fstab" <<-EOF
		$3 / ufs ro 1 1
		$4 /cfg ufs rw,noauto 2 2
	EOF
	cat >"$1/conf/base/etc/rc.conf" <<-EOF
		hostname="nano"
		#
		cfgd_enable="YES"
		#
		release="$2"
		#
		sshd_enable="NO"
	EOF
	echo "127.0.0.1 localhost" >"$1/conf/base/etc/hosts"
	echo default >"$1/conf/base/etc/to-be-removed"
	echo "$2" >"$1/conf/base/etc/release"
	echo "NANO_DRIVE=$drive" >"$1/conf/base/etc/nanobsd.conf"
	echo "mount -o ro $4" >"$1/conf/default/etc/remount"
	cp -Rp "$1/conf/base/etc" "$1/etc"
}

# make_slice DEVICE RELEASE ROOT CFG [LABEL] makes a filesystem with a system in a partition.
make_slice() {
	must newfs ${5:+-L "$5"} "/dev/$1"
	must mount "/dev/$1" "$W/slice"
	contents "$W/slice" "$2" "$3" "$4"
	must umount "$W/slice"
}

# image_of DEVICE FILE RELEASE copies a slice into a file, and makes another release of it.
image_of() {
	must dd if="/dev/$1" of="$2" bs=1m
	attach -t vnode -f "$2"
	on=/dev/$md
	if [ -e "/dev/${md}a" ]; then
		on=/dev/${md}a
	fi
	must fsck_ffs -y "$on"
	must mount "$on" "$W/slice"
	for etc in etc conf/base/etc; do
		sed -i '' "s/^release=.*/release=\"$3\"/" "$W/slice/$etc/rc.conf"
		echo "$3" >"$W/slice/$etc/release"
		echo new >"$W/slice/$etc/new-default"
	done
	must umount "$W/slice"
	must mdconfig -d -u "${md#md}"
}

# sound WHAT DEVICE: fsck_ffs(8) goes through all of a filesystem and has nothing to ask. Its status says
# nothing of that: with -n it ends 0 on most of what it would mend.
sound() {
	out=$(fsck_ffs -n "$2" 2>&1)
	rc=$?
	if [ $rc = 0 ] && printf '%s\n' "$out" | grep -q 'Phase 5' &&
		! printf '%s\n' "$out" | grep -Eq '[?] (no|yes)$|UNEXPECTED|PLEASE RERUN FSCK'; then
		ok "$1"
	else
		notok "$1" "fsck_ffs -n $2 ended with $rc:" "$out"
	fi
}

# loaders DISK adds the partitions that gptboot(8) is started from, by a BIOS and by UEFI: whichever way this
# machine came up, cfgd finds a loader that heeds bootonce.
loaders() {
	[ -r /boot/gptboot ] || [ -r /boot/gptboot.efi ] || skip "there is no /boot/gptboot"
	must gpart add -t freebsd-boot -s 512k "$1"
	[ ! -r /boot/gptboot ] || must gpart bootcode -b /boot/pmbr -p /boot/gptboot -i 1 "$1"
	must gpart add -t efi -s 16m "$1"
	must newfs_msdos -F 16 -c 1 "/dev/${1}p2"
	if [ -r /boot/gptboot.efi ]; then
		must mount -t msdosfs "/dev/${1}p2" "$W/slice"
		mkdir -p "$W/slice/EFI/BOOT"
		must cp /boot/gptboot.efi "$W/slice/EFI/BOOT/BOOTX64.EFI"
		must umount "$W/slice"
	fi
}

running= # the device that the machine started from

# nano_machine makes the host's directories; the disk is there.
nano_machine() {
	make_dir /cfg
	make_dir /conf
	mount_over /conf -t tmpfs -o mode=755 tmpfs
	mkdir -p "$W/slice" "$W/saved" "$W/root"
}

# fresh_etc gives the host an empty /etc. What the machine itself has there stays.
fresh_etc() {
	unmount_to /etc "$etc_mounts"
	[ "$(mounts_on /etc)" = "$etc_mounts" ] || bail "unmount the scenario's /etc"
	must mount -t tmpfs -o mode=755 tmpfs /etc
}

# start_on DEVICE CFG is a start of the machine from a slice: its memory is empty, /etc is filled from the
# defaults and then from /cfg, and rc.d/cfgd_early makes up for what that lacks.
start_on() {
	stop_daemon
	[ -z "$running" ] || must umount "$W/root"
	rm -rfx /var/run/cfgd
	must mount -o ro "$1" "$W/slice"
	fresh_etc
	rm -rf /conf/base
	cp -Rp "$W/slice/conf/base" /conf/base
	cp -Rp /conf/base/etc/. /etc/
	umount "$W/slice"
	must mount -o ro "$2" "$W/saved"
	cp -Rp "$W/saved/." /etc/
	rm -rf /etc/.snap
	umount "$W/saved"
	must mount -o ro "$1" "$W/root"
	running=$1
	must service cfgd_early start
	must service cfgd start
	eventually "the daemon runs on $(cat /etc/release)" 30 service cfgd status
}

# root_reads WHAT: the root of the machine, which is mounted read-only, can still be read: nothing took its
# slice away. A file that was read before may be in memory, and says nothing.
root_reads() { holds "$1" sh -c "find '$W/root' -type f -exec cat {} + >/dev/null"; }

# saved_in_cfg FILE: /cfg has what /etc has of it.
saved_in_cfg() {
	mount -o ro "$cfgdev" "$W/saved" || return 1
	cmp -s "/etc/$1" "$W/saved/$1"
	r=$?
	umount "$W/saved"
	return $r
}

# state N is what cfgd nano status says of the slice or partition that ends in a number.
state() { cfgd nano status 2>/dev/null | awk -v n="$1" '$1 ~ n "$" { $1 = $2 = ""; print }'; }

# boots_next N WHAT: of an MBR the active flag and boot0's default are those of slice N, and cfgd says so.
boots_next() {
	eq "$2: slice $1 is active" "$1" "$(gpart show "$drive" | awk '/\[active\]/ { print $3 }')"
	eq "$2: boot0 takes slice $1" "F$1" \
		"$(boot0cfg -v "$drive" | sed -n 's/^default_selection=\(F[0-9]\).*/\1/p')"
	has "$2: and status says it" "$(state "s$1")" "boots next"
}

# attributes prints "INDEX ATTRIBUTES" of each partition of a GPT that gptboot looks at.
attributes() {
	gpart show "$drive" |
		awk '$4 == "freebsd-ufs" { a = $5; if (a !~ /^\[/) a = "[]"; gsub(/[][]/, "", a); print $3, "," a "," }'
}

# marks INDEX prints the attributes of a partition.
marks() {
	attributes | awk -v i="$1" '$1 == i { gsub(/^,|,$/, "", $2); print $2 }' | tr , '\n' | sort | xargs
}

# fstab_of DEVICE FILE prints the line for / of an fstab in a slice.
fstab_of() {
	if [ "$1" = "$running" ]; then
		awk '$2 == "/" { print $1 }' "$W/root/$2"
		return
	fi
	mount -o ro "$1" "$W/slice" || return
	awk '$2 == "/" { print $1 }' "$W/slice/$2"
	umount "$W/slice"
}

# edits_on_the_host: what an administrator does, and what the daemon makes of it.
edits_on_the_host() {
	sed -i '' 's/^sshd_enable=.*/sshd_enable="YES"/' /etc/rc.conf
	rm /etc/to-be-removed
	echo "10.0.0.1 db" >>/etc/hosts
	eventually "the daemon saves what was edited" 60 saved_in_cfg rc.conf
	eventually "all of it" 30 all_saved host
	eq "/cfg is not mounted between saves" "" "$(mounted_as /cfg)"
}

# merged RELEASE: the defaults are of a release, and the edits are there.
merged() {
	eq "/etc is of release $1" "$1" "$(cat /etc/release)"
	has "with its settings" "$(cat /etc/rc.conf)" "^release=\"$1\""
	has "and what was edited" "$(cat /etc/rc.conf)" '^sshd_enable="YES"'
	has "in every file" "$(cat /etc/hosts)" "^10.0.0.1 db"
	holds "what was removed stays so" gone /etc/to-be-removed
	holds "no store is in /etc" gone /etc/.cfgd
	eventually "nothing is unsaved" 30 all_saved host
}
