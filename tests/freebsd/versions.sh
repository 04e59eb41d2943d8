# Files that tell by themselves whether they are whole, and of which edit. They are read after lib.sh.

# version N is the content of edit N: as many lines as N says, each of them N.
version() { jot -b "$1" $(($1 % 300 + 1)); }

# edit DIR FILE N replaces a file as editors do, so that it is whole at every instant. What ends in ~ is of
# class ignore.
edit() {
	mkdir -p "$(dirname "$1/$2")" && version "$3" >"$1/$2~" && mv "$1/$2~" "$1/$2"
}

# names of what is edited: defaults, new files, new directories.
some_name() {
	case $(jot -r 1 0 2) in
	0) echo "default$(jot -r 1 0 9)" ;;
	1) echo "new$(jot -r 1 0 9)/deep/file" ;;
	*) echo "dir$(jot -r 1 0 4)/file$(jot -r 1 0 9)" ;;
	esac
}

# defaults DIR makes a base of such files, all of edit 1.
defaults() {
	mkdir -p "$1"
	for i in 0 1 2 3 4 5 6 7 8 9; do
		version 1 >"$1/default$i"
		mkdir -p "$1/dir$((i % 5))"
		version 1 >"$1/dir$((i % 5))/default"
	done
}

# target makes a jail's trees of plain directories, mounted by hand: no jail runs, only its hooks do.
target() { # CFG: what is mounted on its cfg
	mkdir -p /jail/base /jail/$jail/etc /jail/$jail/cfg /jail/$jail/conf/base/etc
	defaults /jail/base
	cat >>/etc/rc.conf <<-EOF
		jail_list="$jail"
		jail_${jail}_rootdir="/jail/$jail"
		jail_${jail}_hostname="$jail"
		jail_${jail}_fstab="/etc/fstab.$jail"
	EOF
	echo "/jail/base /jail/$jail/conf/base/etc nullfs ro 0 0" >/etc/fstab.$jail
	echo "$1" >>/etc/fstab.$jail
	printf '[defaults]\nmemory = "tmpfs"\nsettle = "10ms"\nmax_wait = "100ms"\n' >/usr/local/etc/cfgd.toml
	must mount -t nullfs -o ro /jail/base /jail/$jail/conf/base/etc
}

# numbers DIR prints for each file below it the edit that it holds, "FILE N", -1 if it is torn. One awk(1)
# reads them all: on a slow machine a process for each file would take most of the time. What fsck_ffs(8)
# found without a name, and what UFS keeps in its own files, is no part of the tree.
numbers() {
	(
		cd "$1" || exit
		set -- . \( -name .cfgd -o -name lost+found -o -name .snap -o -name .sujournal \) -prune -o -type f
		find "$@" -size 0 -print | sed 's/$/ -1/'
		find "$@" ! -size 0 -exec awk '
			function said() { if (name != "") print name, (torn || lines != v % 300 + 1) ? -1 : v }
			FNR == 1 { said(); name = FILENAME; v = $1; torn = 0 }
			$1 != v { torn = 1 }
			{ lines = FNR }
			END { said() }' {} +
	) | sed 's,^\./,,'
}

# whole DIR WHAT counts a torn file as a failure, and nothing else as anything.
whole() {
	torn=$(numbers "$1" | sed -n 's/ -1$//p')
	[ -z "$torn" ] || {
		notok "$2: no file is torn" "torn: $torn"
		return 1
	}
}

# at_least DIR SAYS WHAT: for each line "FILE N" of SAYS the file holds edit N or a later one.
at_least() {
	lost=$({ numbers "$1"; echo --; cat "$2"; } | awk '$1 == "--" { says = 1; next }
		!says { has[$1] = $2; next }
		has[$1] + 0 < $2 { printf " %s: %d, not %d;", $1, $2, has[$1] }')
	[ -z "$lost" ] || {
		notok "$3: what was called saved is there" "lost: $lost"
		return 1
	}
}

# newest FILE keeps of lines "FILE N" the last of each file.
newest() {
	awk '{ n[$1] = $2 } END { for (f in n) print f, n[f] }' "$1"
}
