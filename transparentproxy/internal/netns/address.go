//go:build linux

// Package netns is what the backends of redirection share in the network namespace of the calling thread: the addresses of
// loopback, files and a lock, the journal of what was created, and transactions of nf_tables.
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

// OwnAddresses are all addresses that a plan ever puts on loopback.
var OwnAddresses = []netip.Prefix{netip.MustParsePrefix("::6/128")}

// AddAddresses adds what is missing on loopback and returns what it added.
func AddAddresses(want []netip.Prefix) (added []netip.Prefix, err error) {
	if len(want) == 0 {
		return nil, nil
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find loopback interface: %w", err)
	}
	for _, p := range want {
		err := netlink.AddrAdd(lo, &netlink.Addr{IPNet: ipNet(p), Flags: unix.IFA_F_NODAD})
		if errors.Is(err, unix.EEXIST) {
			continue
		}
		if err != nil {
			return added, fmt.Errorf("add address %v to loopback: %w; without it IPv6 cannot be redirected, use --ip-family-mode ipv4", p, err)
		}
		added = append(added, p)
	}
	return added, nil
}

// RemoveAddresses takes addresses off loopback; those that are not there are no error.
func RemoveAddresses(list []netip.Prefix) error {
	if len(list) == 0 {
		return nil
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback interface: %w", err)
	}
	var errs []error
	for _, p := range list {
		if err := netlink.AddrDel(lo, &netlink.Addr{IPNet: ipNet(p)}); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			errs = append(errs, fmt.Errorf("remove address %v from loopback: %w", p, err))
		}
	}
	return errors.Join(errs...)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
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
