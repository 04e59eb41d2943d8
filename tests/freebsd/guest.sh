#!/bin/sh
# Runs on FreeBSD, as root, in the directory that tests/freebsd/run made: the test binaries, and then the
# scenarios. It prints a line for each, what failed of it, and a sum. It ends 1 if anything failed.
dir=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=/dev/null
. "$dir/settings"
out=$dir/out
mkdir -p "$out"
passed=0
failed=0
skipped=0

[ "$(uname -s)" = FreeBSD ] || { echo "this is no FreeBSD" >&2; exit 64; }
[ "$(id -u)" = 0 ] || { echo "it takes root" >&2; exit 64; }
echo "# $(uname -srm), $(sysctl -n hw.ncpu) processors, $(($(sysctl -n hw.physmem) / 1048576)) MB"
echo "# cfgd: $("$dir/cfgd" version)"

CFGD_PROGRAM=$dir/cfgd
CFGD_TEST_PROGRAM=$dir/cfgd
SCENARIO_SECONDS=${SCENARIO_SECONDS:-3600}
export CFGD_PROGRAM CFGD_TEST_PROGRAM CFGD_KILLS CFGD_CUTS CFGD_PATIENCE SCENARIO_SECONDS

# binary FILE runs the tests of a package where its source is, as go test does.
binary() {
	# shellcheck disable=SC2086 # flags are words
	t=$1
	package=$(cat "${t%.test}.dir")
	log=$out/$(echo "$package" | tr / -).log
	began=$(date +%s)
	(cd "$dir/src/$package" && TMPDIR=$tmp exec timeout -k 10 "${TEST_SECONDS:-900}" \
		"$t" -test.v -test.timeout "${TEST_SECONDS:-900}s" \
		${TEST_FLAGS:-}) >"$log" 2>&1
	rc=$?
	took=$(($(date +%s) - began))
	word=ok
	why=
	if [ $rc != 0 ]; then
		word="not ok"
	elif ! grep -q '^--- PASS' "$log"; then
		why=" # skip no test ran: $(grep -i 'skip' "$log" | head -1 | sed 's/^ *//')"
	fi
	echo "$word - tests of $package: $(grep -c '^--- PASS' "$log") passed, $(grep -c '^--- FAIL' "$log") failed," \
		"$(grep -c '^--- SKIP' "$log") skipped, $took s$why"
	if [ -n "$why" ]; then
		skipped=$((skipped + 1))
	elif [ $rc = 0 ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		grep -E '^ *--- FAIL|^panic|^FAIL' "$log" | head -40 | sed 's/^/#   /'
	fi
}

# machine prints what a scenario must leave as it was.
machine() {
	mount -p | awk '{ print $1, $2, $3 }'
	mdconfig -l
	jls -q name
	ifconfig lo0 | grep inet
	kldstat -q -m zfs && zpool list -H -o name
	ls -d / /jail /jail/* /conf /cfg /usr/local/* /var/run/cfgd /var/db/cfgd /var/log/jail_cfgdtest* \
		/var/run/jail_cfgdtest* /var/run/jail.cfgdtest* "${TMPDIR:-/tmp}"/cfgdtest.* 2>/dev/null
	pgrep -lx cfgd
	for d in /etc /usr/local/etc; do
		[ -d $d ] || continue
		(cd $d/. && find . -type f -exec cksum {} + | sort)
		(cd $d/. && find . -exec stat -f '%N %Sp %u %g %Sf %Y' {} + | sort)
	done
}

# scenario NAME runs one, and looks at the machine before and after it.
scenario() {
	log=$out/$1.log
	machine >"$out/before" 2>/dev/null
	began=$(date +%s)
	# After the time is up, a scenario may take minutes to clean up.
	timeout -k 300 "$SCENARIO_SECONDS" sh "$dir/src/tests/freebsd/$1.sh" >"$log" 2>&1 </dev/null
	rc=$?
	took=$(($(date +%s) - began))
	machine >"$out/after" 2>/dev/null
	good=$(grep -c '^ok' "$log")
	bad=$(grep -c '^not ok' "$log")
	if ! cmp -s "$out/before" "$out/after"; then
		rc=1
		bad=$((bad + 1))
		{
			echo "not ok - the machine is as it was"
			diff -u "$out/before" "$out/after" | sed 's/^/#   /'
		} >>"$log"
	fi
	case $rc in
	0)
		passed=$((passed + 1))
		echo "ok - $1: $good checks, $took s"
		;;
	77)
		skipped=$((skipped + 1))
		echo "ok - $1 # $(tail -1 "$log" | sed 's/.*# //')"
		;;
	*)
		failed=$((failed + 1))
		echo "not ok - $1: $bad of $((good + bad)) checks failed, status $rc, $took s"
		sed -n '/^not ok/,/^ok/{/^ok/!p;}' "$log" | head -100 | sed 's/^/#   /'
		if [ "$bad" = 0 ]; then
			tail -20 "$log" | sed 's/^/#   /'
		fi
		;;
	esac
}

md=
give_back() {
	if [ -n "$md" ]; then
		umount -f "$tmp"
		mdconfig -d -u "${md#md}"
	fi
	rm -rfx "$tmp"
}
trap 'give_back; exit 130' INT TERM HUP
# The tests' own files lie on a UFS that waits for no disk: the machine's may be slow, or read-only. An
# ordinary user reaches them, as checkers run as nobody.
tmp=$(mktemp -d "${TMPDIR:-/tmp}/cfgdfiles.XXXXXX") || exit 64
md=$(mdconfig -a -t swap -s "${TEST_ROOM:-1g}") && newfs -O 2 "/dev/$md" >/dev/null &&
	mount -o noatime,async "/dev/$md" "$tmp" ||
	echo "# the tests' files are in $tmp, on the machine's own disk"
chmod 1777 "$tmp"
for what in $RUN; do
	case $what in
	tests)
		for t in "$dir"/t/*.test; do
			binary "$t"
		done
		;;
	tests/*)
		t=$dir/t/$(echo "${what#tests/}" | tr / -).test
		if [ -f "${t%.test}.dir" ]; then
			binary "$t"
		else
			echo "ok - tests of ${what#tests/} # skip it has none for FreeBSD"
			skipped=$((skipped + 1))
		fi
		;;
	*) scenario "$what" ;;
	esac
done
give_back
echo "# $passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
