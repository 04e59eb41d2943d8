package jails

import (
	"fmt"
	"net/netip"
	"regexp"

	"cfgd/config"
)

// Spec describes the jail to create.
type Spec struct {
	Name      string
	Hostname  string
	IP        string // one address; "" for none
	Interface string // "" leaves it out
	Prototype *config.Prototype
	Mark      string // of the prototype's snapshots
	Snapshot  string
	Dataset   string      // the prototype's; "" if it is not on ZFS
	Form      config.Form // of the lines that define it
	Listed    bool        // jail_list is set, and has to name it
	Embedded  bool        // nothing is mounted: the jail's trees are in its root

	more    []config.Param // what else defines it, in the words of Form
	noHooks bool           // its etc is on a disk
}

var (
	// the name becomes part of the names of rc.conf's variables
	jailName  = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]{0,62}$`)
	hostName  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$`)
	netDevice = regexp.MustCompile(`^[a-z][a-z0-9_.]{0,14}$`)
)

func (s *Spec) check() error {
	switch {
	case !jailName.MatchString(s.Name) || s.Name == config.HostName:
		return fmt.Errorf("%q cannot be a jail's name: letters, digits and _", s.Name)
	case !hostName.MatchString(s.Hostname):
		return fmt.Errorf("%q is no host name", s.Hostname)
	case s.Interface != "" && !netDevice.MatchString(s.Interface):
		return fmt.Errorf("%q is no network interface", s.Interface)
	}
	if _, err := netip.ParseAddr(s.IP); s.IP != "" && err != nil {
		return fmt.Errorf("%q is no address: %w", s.IP, err)
	}
	return nil
}
