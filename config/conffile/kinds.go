package conffile

// Kind says what is wrong. Programs compare problems by their kinds, and never by their words.
type Kind string

// The kinds of problems. The comment of each says what is wrong.
const (
	BadFile Kind = "bad-file" // a file cannot be read or parsed
	BadName Kind = "bad-name" // a jail's name cannot be a target's
	BadPath Kind = "bad-path" // a root or base is no directory of its own, or is written through ..

	// of rc.conf
	UnknownValue        Kind = "unknown-value"        // only a shell would know a jail_ variable's value
	UnreadFile          Kind = "unread-file"          // jail_ variables where rc.d/jail does not read them
	UnfollowedParameter Kind = "unfollowed-parameter" // jail_NAME_parameters sets what cfgd reads elsewhere
	ListedTwice         Kind = "listed-twice"         // jail_list names a jail twice
	UndefinedJail       Kind = "undefined-jail"       // jail_list names a jail that nothing defines
	NotInJailList       Kind = "not-in-jail-list"     // a jail is not started at boot
	NoHostname          Kind = "no-hostname"          // rc.d/jail ignores the jail_ variables

	// of jail.conf
	UnquotedName Kind = "unquoted-name" // a name that jail(8) reads only in quotes
	BadParameter Kind = "bad-parameter" // a parameter that jail(8) refuses, or a variable that is not known
	LateDefault  Kind = "late-default"  // a default whose effect depends on the release
	NotStarted   Kind = "not-started"   // a file of one jail that nothing starts

	// of both
	DefinedTwice Kind = "defined-twice" // a jail is defined in two places
	SetTwice     Kind = "set-twice"     // the second of two assignments hides a command

	// of hooks
	NoInitHook          Kind = "no-init-hook"
	NoCleanupHook       Kind = "no-cleanup-hook"
	MisnamedHook        Kind = "misnamed-hook"          // the cleanup hook takes the place of the init hook
	MisplacedHook       Kind = "misplaced-hook"         // a hook in a list of commands where it does harm
	ForeignHook         Kind = "foreign-hook"           // a hook that names another jail
	InitHookWithoutBase Kind = "init-hook-without-base" // an init hook of a jail that is no target

	// of mounts
	NoFstab          Kind = "no-fstab"           // the fstab that a jail names does not exist
	MountedTwice     Kind = "mounted-twice"      // two equal lines
	HiddenMount      Kind = "hidden-mount"       // a mount that a later one hides
	SnapshotsDiffer  Kind = "snapshots-differ"   // base and root are of different snapshots
	CfgAlwaysMounted Kind = "cfg-always-mounted" // /cfg without noauto
	UnusedLine       Kind = "unused-line"        // a line of /etc/fstab that mount(8) does not take
	SharedCfg        Kind = "shared-cfg"         // two jails mount the same cfg

	// of trees
	TreesOverlap Kind = "trees-overlap" // a tree of a target is inside another
	NotInMemory  Kind = "not-in-memory" // a live tree is on a disk
	ImageDiffers Kind = "image-differs" // a file of the host counts only in the image, and was changed here

	// of cfgd.toml and nanobsd.conf
	SettingsWithoutTarget Kind = "settings-without-target" // a table for a jail that is no target
	NanoUnserved          Kind = "nano-unserved"           // cfgd nano does not serve this machine
	NanoNext              Kind = "nano-next"               // the slice that boots next cannot boot
)
