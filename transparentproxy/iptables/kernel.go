//go:build linux

package iptables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// What iptables cannot do is done over netlink in the calling thread's namespace: the loopback address, and removing
// built-in chains and tables of the nft flavour, which iptables creates and never deletes.

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

// hasAddress reports whether loopback has the address.
func hasAddress(p netip.Prefix) (bool, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return false, fmt.Errorf("find loopback interface: %w", err)
	}
	list, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
	for n := 1; n < dumpAttempts && errors.Is(err, netlink.ErrDumpInterrupted); n++ {
		list, err = netlink.AddrList(lo, netlink.FAMILY_ALL)
	}
	if err != nil {
		return false, fmt.Errorf("list addresses of loopback: %w", err)
	}
	return slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IPNet.String() == p.String() }), nil
}

// deleteCreated deletes built-in chains and tables of the nft flavour. The kernel refuses what holds anything, at the same
// instant, so that rules that others put there meanwhile are safe.
func deleteCreated(list []created) error {
	var errs []error
	for _, family := range []tp.Family{tp.IPv4, tp.IPv6} {
		if !slices.ContainsFunc(list, func(c created) bool { return c.Family == family }) {
			continue
		}
		there, err := nftObjects(family)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var chains, tables []created
		for _, c := range list {
			switch {
			case !there[c]: // of the other family, or gone
			case c.Chain == "":
				tables = append(tables, c)
			default:
				chains = append(chains, c)
			}
		}
		// All at once, since every transaction waits for the packets under way; one by one when something is in use.
		all := slices.Concat(chains, tables)
		err = deleteNFT(family, all...)
		if !inUse(err) {
			errs = append(errs, err)
			continue
		}
		for _, c := range all {
			if err := deleteNFT(family, c); !inUse(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// inUse reports whether the kernel refused because somebody uses what was to be deleted, or deleted it already.
func inUse(err error) bool { return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOENT) }

// deleteNFT is one transaction: begin, delete each unless it is in use, end.
func deleteNFT(family tp.Family, list ...created) (err error) {
	if len(list) == 0 {
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("delete empty %v nft tables: %w", family, err)
		}
	}()
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	if err := unix.Bind(s, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	// The kernel answers before the send returns; the limit is for kernels that do not.
	if err := unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		return err
	}
	const batch, nft = unix.NFNL_SUBSYS_NONE << 8, unix.NFNL_SUBSYS_NFTABLES << 8
	seq := uint32(1)
	msg := message(batch|unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, seq, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	for _, c := range list {
		kind := uint16(nft | unix.NFT_MSG_DELTABLE)
		attrs := attribute(unix.NFTA_TABLE_NAME, c.Table)
		if c.Chain != "" {
			kind = nft | unix.NFT_MSG_DELCHAIN
			attrs = append(attribute(unix.NFTA_CHAIN_TABLE, c.Table), attribute(unix.NFTA_CHAIN_NAME, c.Chain)...)
		}
		seq++
		msg = append(msg, message(kind, unix.NLM_F_REQUEST|unix.NLM_F_ACK|unix.NLM_F_NONREC, seq, nftFamily(family), 0, attrs)...)
	}
	msg = append(msg, message(batch|unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, seq+1, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)...)
	if err := unix.Sendto(s, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	return acknowledged(s, seq)
}

// acknowledged waits for the answer to the last message of a transaction, or the first refusal.
func acknowledged(s int, seq uint32) error {
	buf := make([]byte, 8192)
	for {
		n, _, err := unix.Recvfrom(s, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return errors.New("answer of the kernel is not understood")
			}
			if binary.NativeEndian.Uint16(b[4:]) == unix.NLMSG_ERROR && size >= unix.NLMSG_HDRLEN+4 {
				code := int32(binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:]))
				if code != 0 {
					return unix.Errno(-code)
				}
				if binary.NativeEndian.Uint32(b[8:]) == seq {
					return nil
				}
			}
			b = b[min(len(b), align(size)):]
		}
	}
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// message is a netlink header, a netfilter header and attributes.
func message(kind uint16, flags uint16, seq uint32, family byte, resource uint16, attrs []byte) []byte {
	const netfilterHeader = 4
	b := make([]byte, unix.NLMSG_HDRLEN+netfilterHeader, unix.NLMSG_HDRLEN+netfilterHeader+len(attrs))
	binary.NativeEndian.PutUint32(b, uint32(cap(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], flags)
	binary.NativeEndian.PutUint32(b[8:], seq)
	b[unix.NLMSG_HDRLEN] = family
	binary.BigEndian.PutUint16(b[unix.NLMSG_HDRLEN+2:], resource)
	return append(b, attrs...)
}

// attribute is a zero-terminated string.
func attribute(kind uint16, value string) []byte {
	size := unix.NLA_HDRLEN + len(value) + 1
	b := make([]byte, align(size))
	binary.NativeEndian.PutUint16(b, uint16(size))
	binary.NativeEndian.PutUint16(b[2:], kind)
	copy(b[unix.NLA_HDRLEN:], value)
	return b
}

// dumpAttempts is how often a list is read again because others changed it while it was read.
const dumpAttempts = 50

// nftObjects lists the tables and the chains of one family in the nft flavour. iptables-save is no help: it shows built-in
// chains of a table whether they exist or not.
func nftObjects(family tp.Family) (map[created]bool, error) {
	out := map[created]bool{}
	for _, kind := range []struct {
		message     int
		table, name uint16 // attributes
	}{
		{unix.NFT_MSG_GETTABLE, unix.NFTA_TABLE_NAME, 0},
		{unix.NFT_MSG_GETCHAIN, unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME},
	} {
		req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind.message, unix.NLM_F_DUMP)
		req.AddData(&nl.Nfgenmsg{NfgenFamily: nftFamily(family), Version: nl.NFNETLINK_V0})
		answers, err := req.Execute(unix.NETLINK_NETFILTER, 0)
		for n := 1; n < dumpAttempts && errors.Is(err, netlink.ErrDumpInterrupted); n++ {
			answers, err = req.Execute(unix.NETLINK_NETFILTER, 0)
		}
		if err != nil {
			return nil, fmt.Errorf("list %v nft tables: %w", family, err)
		}
		for _, a := range answers {
			if len(a) < nl.SizeofNfgenmsg {
				continue
			}
			attrs, err := nl.ParseRouteAttr(a[nl.SizeofNfgenmsg:])
			if err != nil {
				return nil, fmt.Errorf("list %v nft tables: %w", family, err)
			}
			c := created{Family: family}
			for _, attr := range attrs {
				switch {
				case attr.Attr.Type == kind.table:
					c.Table = nl.BytesToString(attr.Value)
				case kind.name != 0 && attr.Attr.Type == kind.name:
					c.Chain = nl.BytesToString(attr.Value)
				}
			}
			out[c] = true
		}
	}
	return out, nil
}

func nftFamily(f tp.Family) uint8 {
	if f == tp.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}
