#!/bin/sh
# The same without ZFS: directories as snapshots, nullfs, /etc in a tmpfs and then on an md. The module of ZFS
# is not asked for by anything that cfgd does.
# shellcheck source=tests/freebsd/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck disable=SC2034 # jails.sh reads it
proto=cfgdtestproto jail=cfgdtest1
. "$here/jails.sh"

begin "the paper's server on UFS"
zfs=no
if kldstat -q -m zfs; then
	zfs=yes
fi
on_ufs /jail 2g
cp /etc/rc.conf "$W/rc.conf.first"
printf '[defaults]\nmemory = "tmpfs"\nmemory_size = "16m"\n' >/usr/local/etc/cfgd.toml
cp /usr/local/etc/cfgd.toml "$W/cfgd.toml.first"
must cfgd proto create --ip 127.0.1.1 --interface lo0 "$proto"
system "/jail/$proto"

first_start tmpfs
ends "check says what holds /etc" 0 cfgd check
has "which is a tmpfs" "$out" "live +$live \(tmpfs\)"
holds "the snapshot is a directory" test -f "/jail/$proto/.cfgd/snapshot/1/etc/rc.conf"
edits
restart
# The next start takes an md, and what was saved from one is populated in the other.
sed -i '' 's/"tmpfs"/"md"/' /usr/local/etc/cfgd.toml
restart
eq "the setting of an md counts from the next start on" ufs "$(mounted_as "$live")"
upgrade
clone
morning
sed -i '' 's/"md"/"tmpfs"/' /usr/local/etc/cfgd.toml
uninstall
holds "cfgd.toml is as it was" same /usr/local/etc/cfgd.toml "$W/cfgd.toml.first"
eq "nothing is left of either" "" "$(find /jail -mindepth 1 -maxdepth 1 ! -name .snap ! -name .cfgd)"
if [ $zfs = no ]; then
	fails "zfs.ko was not loaded by any of it" kldstat -q -m zfs
else
	echo "# zfs.ko was loaded before: whether cfgd loads it was not seen"
fi
finish
