# The way of a jail through a life, shared by the scenarios on ZFS and on UFS. It is read by them after
# lib.sh. $proto and $jail are names; the prototype is made and has its system.

live=/jail/$jail/etc
cfg=/jail/$jail/cfg

# first_start takes a snapshot, makes a jail on it, and starts daemon and jail by rc(8).
first_start() { # KIND: what holds /etc, ufs or tmpfs
	ends "a snapshot is taken" 0 cfgd proto snapshot --comment "the first" "$proto"
	has "it is number 1" "$out" "^$proto snapshot 1 taken"
	cp /etc/rc.conf "$W/rc.conf.before"
	ends "the plan of a jail shows its fstab" 0 cfgd jail create --plan --ip 127.0.1.11 --interface lo0 \
		"$jail"
	has "the plan names the base" "$out" "^/jail/$proto.* /jail/$jail/conf/base/etc nullfs ro 0 0"
	holds "a plan changes nothing" same /etc/rc.conf "$W/rc.conf.before"
	must cfgd jail create --ip 127.0.1.11 --interface lo0 "$jail"
	ends "check finds nothing wrong" 0 cfgd check
	has "the jail is a target by its fstab's base" "$out" "base id +$proto/etc@1"
	must service cfgd start
	eventually "the daemon runs" 30 service cfgd status
	by_rc start "$jail"
	holds "the jail runs" runs "$jail"
	eq "its /etc is in memory" "$1" "$(mounted_as "$live")"
	ends "nothing is changed at first" 0 cfgd diff "$jail"
	eventually "the daemon watches it by kqueue" 30 sh -c "cfgd status $jail | grep -q kqueue"
}

# edits are made inside the jail, as its administrator makes them.
edits() {
	must in_jail "$jail" 'set -e
		cd /etc
		sed -i "" "s/^sshd_enable=.*/sshd_enable=\"YES\"/" rc.conf
		rm to-be-removed
		chmod 600 to-be-restricted
		mkdir -p local/deep
		echo one > local/deep/file
		touch -t 200102030405.06 local/deep/file
		ln -s deep/file local/link
		echo immutable > local/immutable
		chflags uchg local/immutable
		chown 3:5 local/deep'
	must jexec "$jail" pw useradd cfgdjoe -u 4711 -m -s /bin/sh
	eventually "the daemon saves the edit of a file" 30 same "$live/rc.conf" "$cfg/rc.conf"
	eventually "and what pw(8) wrote" 30 same "$live/master.passwd" "$cfg/master.passwd"
	eventually "nothing is left unsaved" 30 all_saved "$jail"
	ends "diff names what is changed" 1 cfgd diff --name-status "$jail"
	eq "and nothing else" "M group
A local/deep/file
A local/immutable
A local/link
M master.passwd
M passwd
M rc.conf
D to-be-removed
P to-be-restricted" "$(printf '%s\n' "$out" | grep -v '^A local$')"
	ends "the log has generations" 0 cfgd log "$jail"
	has "of this base" "$out" "^ +1 .*$proto/etc@1"
}

# restart: after a stop nothing of the jail is left, and a start brings back all that was there.
restart() {
	shape "$live" >"$W/shape.before"
	must service jail stop "$jail"
	fails "the jail is stopped" runs "$jail"
	eq "nothing of it is mounted" "" "$(mount -p | awk '{ print $2 }' | grep "^/jail/$jail")"
	by_rc start "$jail"
	holds "it starts again" runs "$jail"
	shape "$live" >"$W/shape.after"
	eq "all is back, with mode, owner, flags and time" "" "$(diff -u "$W/shape.before" "$W/shape.after")"
	ends "the new user is there" 0 jexec "$jail" id -u cfgdjoe
	eq "by the database, too" 4711 "$out"
	holds "which pwd_mkdb(8) finds sound" jexec "$jail" pwd_mkdb -C /etc/master.passwd
	eventually "nothing is unsaved" 30 all_saved "$jail"
}

# relocation: a directory of the prototype's moves into its etc, and back, and again.
relocation() {
	moved=/jail/$proto/usr/local/etc
	echo app >"$moved/app.conf"
	shape "$moved" >"$W/shape.moved"
	ends "a directory is relocated" 0 cfgd relocate "$proto" /usr/local/etc
	eq "with a link in its place" ../../etc/local "$(readlink "$moved")"
	eq "and is whole" "" "$(shape "/jail/$proto/etc/local" | diff -u "$W/shape.moved" -)"
	ends "and put back" 0 cfgd relocate --undo "$proto" /usr/local/etc
	eq "and is whole there" "" "$(shape "$moved" | diff -u "$W/shape.moved" -)"
	holds "with nothing left in etc" gone "/jail/$proto/etc/local"
	ends "it is relocated again" 0 cfgd relocate "$proto" /usr/local/etc
}

# upgrade: the prototype changes, the jail follows, and goes back.
upgrade() {
	sed -i '' 's/^cron_flags=.*/cron_flags="-J 60"/' "/jail/$proto/etc/rc.conf"
	echo new >"/jail/$proto/etc/new-default"
	must pw -R "/jail/$proto" useradd cfgdsvc -u 4712 -d /nonexistent -s /usr/sbin/nologin
	relocation
	must cfgd proto snapshot --comment "the second" "$proto"
	ends "the list shows who is where" 0 cfgd proto list
	has "the jail is on the first" "$out" "^$proto +1 .* $jail "
	ends "plan merges without a conflict" 0 cfgd plan "$jail" 2
	has "the edited file" "$out" "merged +rc.conf"
	has "and the accounts" "$out" "merged +master.passwd"
	cp "/etc/fstab.$jail" "$W/fstab.before"
	ends "switch --plan says the same" 0 cfgd jail switch --plan "$jail" 2
	holds "and changes nothing" same "/etc/fstab.$jail" "$W/fstab.before"
	ends "the switch restarts the jail" 0 cfgd jail switch --restart "$jail" 2
	holds "which runs" runs "$jail"
	eq "its base is the second snapshot" "$proto/etc@2" "$(column "$jail" 2)"
	eq "what was edited is there" 1 "$(grep -c '^sshd_enable="YES"' "$live/rc.conf")"
	eq "and what is new" 1 "$(grep -c '^cron_flags="-J 60"' "$live/rc.conf")"
	eq "with a new default" new "$(cat "$live/new-default")"
	holds "what was removed stays so" gone "$live/to-be-removed"
	eq "the relocated directory is in the jail's own etc" app "$(jexec "$jail" cat /usr/local/etc/app.conf)"
	holds "which is in memory" test -f "$live/local/app.conf"
	ends "both users are there" 0 jexec "$jail" id -u cfgdjoe cfgdsvc
	holds "and the databases are sound" jexec "$jail" pwd_mkdb -C /etc/master.passwd
	must in_jail "$jail" 'echo "10.0.0.1 db" >> /etc/hosts'
	ends "the way back" 0 cfgd jail rollback --restart "$jail"
	eq "is the first snapshot" "$proto/etc@1" "$(column "$jail" 2)"
	eq "the new setting is gone" 0 "$(grep -c '^cron_flags="-J 60"' "$live/rc.conf")"
	eq "the edit from before is there" 1 "$(grep -c '^sshd_enable="YES"' "$live/rc.conf")"
	eq "and the one that was made since" "10.0.0.1 db" "$(tail -1 "$live/hosts")"
	fails "the new default's user is gone" jexec "$jail" id -u cfgdsvc
	ends "the old one is there" 0 jexec "$jail" id -u cfgdjoe
}

# clone: a test jail beside the jail, which goes again.
clone() {
	ends "a clone is made on the second snapshot" 0 cfgd jail clone --ip 127.0.1.99 "$jail" cfgdtesttry 2
	by_rc start cfgdtesttry
	holds "it runs" runs cfgdtesttry
	eq "it has the edits" 1 "$(grep -c '^sshd_enable="YES"' /jail/cfgdtesttry/etc/rc.conf)"
	eq "and the new defaults" 1 "$(grep -c '^cron_flags="-J 60"' /jail/cfgdtesttry/etc/rc.conf)"
	holds "the jail runs on beside it" runs "$jail"
	must in_jail cfgdtesttry 'echo "10.0.0.2 try" >> /etc/hosts'
	fails "what is edited in one is not in the other" grep -q "10.0.0.2 try" "$live/hosts"
	must service jail stop cfgdtesttry
	ends "it is destroyed" 0 cfgd jail destroy --yes cfgdtesttry
	holds "and nothing of it is left" gone /jail/cfgdtesttry
	holds "nor its fstab" gone /etc/fstab.cfgdtesttry
}

# morning: what the administrator is told.
morning() {
	ends "the report has findings" 1 cfgd report
	has "a newer snapshot" "$out" "$jail .*snapshot 2"
	ends "prune says what it would keep" 0 cfgd proto prune --keep 1 --dry-run
	has "the snapshot in use, and by whom" "$out" "^$proto@1 kept: /etc/fstab.$jail"
	out=$(daily_status_cfgd_enable=YES sh /usr/local/etc/periodic/daily/480.cfgd 2>&1)
	eq "the periodic script is one that tells something" 1 $?
	ends "the configuration is read anew" 0 service cfgd reload
	ends "and all is saved on demand" 0 service cfgd flush
}

# uninstall [--force]: what cfgd added to the machine goes again, and nothing else. A jail that has got more
# since is destroyed by force alone.
uninstall() {
	must service jail stop "$jail"
	ends "the daemon stops" 0 service cfgd stop
	fails "and is gone" service cfgd status
	if [ $# -gt 0 ]; then
		ends "what was added since keeps the jail" 2 cfgd jail destroy --yes "$jail"
		has "and is named" "$out" "something was added since"
	fi
	# shellcheck disable=SC2086 # a flag or none
	ends "the jail is destroyed" 0 cfgd jail destroy --yes ${1:-} "$jail"
	holds "rc.conf is as it was before it was made" same /etc/rc.conf "$W/rc.conf.before"
	holds "its fstab is gone" gone "/etc/fstab.$jail"
	holds "and its directory" gone "/jail/$jail"
	ends "a prototype with what was added since stays" 2 cfgd jail destroy --yes "$proto"
	holds "with its lines in rc.conf" grep -q "jail_${proto}_hostname" /etc/rc.conf
	ends "the prototype goes last" 0 cfgd jail destroy --yes --force "$proto"
	holds "rc.conf is as it was at first" same /etc/rc.conf "$W/rc.conf.first"
	ends "setup has nothing to take out" 0 cfgd setup --remove
}
