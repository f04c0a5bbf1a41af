//go:build linux

// Package netns is what the backends of redirection share in the network namespace of the calling thread: the addresses of
// loopback, the journal of what was created, and transactions of nf_tables.
package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownAddresses are all addresses that a plan ever puts on loopback.
var ownAddresses = []string{"::6/128"}

// addAddresses adds what is missing on loopback and returns what it added.
func addAddresses(want []netip.Prefix) (added []string, err error) {
	if len(want) == 0 {
		return nil, nil
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find loopback interface: %w", err)
	}
	for _, p := range want {
		a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}, Flags: unix.IFA_F_NODAD}
		err := netlink.AddrAdd(lo, a)
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return added, fmt.Errorf("add address %v to loopback: %w; without it IPv6 cannot be redirected, use --ip-family-mode ipv4", p, err)
		}
		added = append(added, p.String())
	}
	return added, nil
}

func removeAddresses(list []string) error {
	if len(list) == 0 {
		return nil
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback interface: %w", err)
	}
	var errs []error
	for _, s := range list {
		a, err := netlink.ParseAddr(s)
		if err == nil {
			err = netlink.AddrDel(lo, a)
		}
		if err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("remove address %s from loopback: %w", s, err))
		}
	}
	return errors.Join(errs...)
}

// MissingAddresses returns those that loopback does not have.
func MissingAddresses(want []netip.Prefix) ([]netip.Prefix, error) {
	if len(want) == 0 {
		return nil, nil
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find loopback interface: %w", err)
	}
	list, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
	for n := 1; n < dumpAttempts && errors.Is(err, netlink.ErrDumpInterrupted); n++ {
		list, err = netlink.AddrList(lo, netlink.FAMILY_ALL)
	}
	if err != nil {
		return nil, fmt.Errorf("list addresses of loopback: %w", err)
	}
	var missing []netip.Prefix
	for _, p := range want {
		if !slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IPNet.String() == p.String() }) {
			missing = append(missing, p)
		}
	}
	return missing, nil
}
