package jails

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cfgd/config"
	"cfgd/internal/run"
	"cfgd/prototype"
)

// OwnDatasets returns the datasets that belong to a jail: those that it mounts, or the ones above them
// that have the jail's name, so that a recursive snapshot has them all at one moment (the paper's section
// 4.4). A prototype's dataset is never among them, because its snapshots are bases of jails.
func OwnDatasets(jail string, mounts []config.MountLine, protos []*config.Prototype) ([]string, error) {
	var tops []string
	for _, e := range mounts {
		if e.Type != "zfs" || strings.Contains(e.Source, "@") {
			continue
		}
		if !prototype.DatasetName.MatchString(e.Source) {
			return nil, fmt.Errorf("%s: %q is no dataset: POOL/NAME", e.At, e.Source)
		}
		for _, p := range protos {
			if p.Dataset != "" && (e.Source == p.Dataset || strings.HasPrefix(e.Source, p.Dataset+"/")) {
				return nil, fmt.Errorf("%s: %s is the prototype's, and not the jail's own", e.At, e.Source)
			}
		}
		top := e.Source
		parts := strings.Split(e.Source, "/")
		if i := slices.Index(parts, jail); i > 0 {
			top = strings.Join(parts[:i+1], "/")
		}
		if !slices.Contains(tops, top) {
			tops = append(tops, top)
		}
	}
	slices.Sort(tops)
	return slices.Compact(tops), nil
}

// ErrNoZFS is the error for directories, which can't be sent and have no snapshots for backups.
var ErrNoZFS = errors.New("it is not on ZFS: rsync(1) or tar(1) copies directories")

// DatasetsOf reads a jail's fstabs and returns the datasets that belong to the jail. A jail without datasets
// has ErrNoZFS. What cannot be read is an error: a backup would lack a dataset.
func DatasetsOf(m *config.Model, t *config.Target) ([]string, error) {
	mounts := t.Mounts.Again()
	if err := mounts.Whole(); err != nil {
		return nil, err
	}
	tops, err := OwnDatasets(t.Name, mounts.All, m.Prototypes)
	if err == nil && (len(tops) == 0 || m.Root != "") {
		err = ErrNoZFS
	}
	return tops, err
}

// backupPrefix begins the names of jails' snapshots, because numbers name the prototypes' snapshots. The
// time after it makes the name unique and sorts.
const backupPrefix = "cfgd-"

// BackupName returns the name of a jail's snapshot.
func BackupName(now time.Time) string { return backupPrefix + now.UTC().Format("20060102T150405Z") }

// IsBackup reports whether cfgd took a snapshot as a jail's backup.
func IsBackup(name string) bool {
	rest, ok := strings.CutPrefix(name, backupPrefix)
	_, err := time.Parse("20060102T150405Z", rest)
	return ok && err == nil
}

// NewestBackup returns the last of the names, oldest first, that is a backup's; "" if none is.
func NewestBackup(names []string) string {
	for _, n := range slices.Backward(names) {
		if IsBackup(n) {
			return n
		}
	}
	return ""
}

// Backup takes recursive snapshots of datasets, all at one moment.
func Backup(tops []string, name, comment string) run.Cmd {
	args := []string{"snapshot", "-r"}
	if comment != "" {
		args = append(args, "-o", prototype.CommentProperty+"="+comment)
	}
	for _, t := range tops {
		args = append(args, t+"@"+name)
	}
	return run.Command("zfs", args...)
}
