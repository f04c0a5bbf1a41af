//go:build linux

package verify

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// linkPrefix begins the name of the link for the time of a run.
const linkPrefix = "kumav"

// readyTime is how many seconds the link may take to be usable.
const readyTime = 2

// errOutside is why nothing can come from outside.
var errOutside = errors.New("a packet from outside needs another network namespace, which this process may not make: it lacks CAP_SYS_ADMIN")

// outside is another host: a network namespace of its own, at the other end of a link. The namespace has no name, so that the
// kernel takes it and the link away with the last thread and socket in it.
type outside struct {
	name string
	near netlink.Link
	ns   netns.NsHandle
	// addrs are those of both ends.
	addrs map[tp.Family]linkAddrs
	jobs  chan func()
	done  chan struct{}
}

type linkAddrs struct{ near, peer netip.Prefix }

// ranges are for documentation, so that they are no real host's; one that this host has a route to is passed over.
var ranges = map[tp.Family][]netip.Prefix{
	tp.IPv4: {netip.MustParsePrefix("192.0.2.0/30"), netip.MustParsePrefix("198.51.100.0/30"), netip.MustParsePrefix("203.0.113.0/30")},
	tp.IPv6: {netip.MustParsePrefix("2001:db8:6b75:6d61::/126"), netip.MustParsePrefix("2001:db8:6b75:6d62::/126")},
}

// newOutside makes one for some families.
func newOutside(families []tp.Family) (_ *outside, err error) {
	suffix := make([]byte, 4)
	_, _ = rand.Read(suffix) // never fails
	o := &outside{
		name: linkPrefix + hex.EncodeToString(suffix), addrs: map[tp.Family]linkAddrs{}, ns: netns.None(),
		jobs: make(chan func()), done: make(chan struct{}),
	}
	for _, f := range families {
		r, err := freeRange(f)
		if err != nil {
			return nil, err
		}
		near := r.Addr().Next()
		o.addrs[f] = linkAddrs{netip.PrefixFrom(near, r.Bits()), netip.PrefixFrom(near.Next(), r.Bits())}
	}
	started := make(chan error)
	go o.run(started)
	if err := <-started; err != nil {
		<-o.done
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.close())
		}
	}()
	if err := o.connect(families); err != nil {
		return nil, fmt.Errorf("make a link to the outside: %w", err)
	}
	return o, nil
}

// freeRange is one that this host has no route to but the default one.
func freeRange(f tp.Family) (netip.Prefix, error) {
	family := netlink.FAMILY_V4
	if f == tp.IPv6 {
		family = netlink.FAMILY_V6
	}
	routes, err := netlink.RouteList(nil, family)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return netip.Prefix{}, fmt.Errorf("list routes: %w", err)
	}
	for _, r := range ranges[f] {
		if !slices.ContainsFunc(routes, func(route netlink.Route) bool {
			if route.Dst == nil {
				return false
			}
			p, err := netip.ParsePrefix(route.Dst.String())
			return err == nil && p.Bits() > 0 && p.Overlaps(r)
		}) {
			return r, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("a packet from outside needs an address, and this host has routes to all of %v", ranges[f])
}

// run is the thread that is outside. It is never unlocked, so that it ends with the goroutine.
func (o *outside) run(started chan<- error) {
	defer close(o.done)
	runtime.LockOSThread()
	err := unix.Unshare(unix.CLONE_NEWNET)
	if errors.Is(err, unix.EPERM) {
		err = errOutside
	}
	if err == nil {
		o.ns, err = netns.Get()
	}
	started <- err
	if err != nil {
		return
	}
	for job := range o.jobs {
		job()
	}
}

// do runs f outside.
func (o *outside) do(f func() error) error {
	result := make(chan error)
	o.jobs <- func() { result <- f() }
	return <-result
}

func (o *outside) close() error {
	var err error
	if o.near != nil {
		err = netlink.LinkDel(o.near) // at once, rather than when the kernel gets to it
	}
	close(o.jobs)
	<-o.done
	if o.ns.IsOpen() {
		err = errors.Join(err, o.ns.Close())
	}
	if err != nil {
		return fmt.Errorf("remove the link %s: %w", o.name, err)
	}
	return nil
}

func (o *outside) connect(families []tp.Family) error {
	veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: o.name, PeerNamespace: netlink.NsFd(o.ns)}
	veth.Name = o.name
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	link, err := netlink.LinkByName(o.name)
	if err != nil {
		return err
	}
	o.near = link
	if !slices.Contains(families, tp.IPv6) {
		// Who watches this host must not take an address of this link for its first of IPv6. Where that cannot be said there is none.
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+o.name+"/disable_ipv6", []byte("1"), 0)
	}
	// Sources that are excluded are routed elsewhere. Where this cannot be said, their packets do not arrive, which is noticed.
	_ = os.WriteFile("/proc/sys/net/ipv4/conf/"+o.name+"/rp_filter", []byte("0"), 0)
	if err := o.setUp(link, near); err != nil {
		return err
	}
	far, err := o.connectPeer()
	if err != nil {
		return err
	}
	if err := errors.Join(o.ready(near), o.do(func() error { return o.ready(peer) })); err != nil {
		return err
	}
	// Both ends know each other, so that no packet waits for a question that got lost.
	for _, a := range o.addrs {
		err = errors.Join(err, addNeighbour(link, a.peer.Addr(), far),
			o.do(func() error { return addNeighbour(far, a.near.Addr(), link) }))
	}
	return err
}

func addNeighbour(link netlink.Link, a netip.Addr, other netlink.Link) error {
	if err := netlink.NeighSet(&netlink.Neigh{
		LinkIndex: link.Attrs().Index, Family: domain(a), State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: other.Attrs().HardwareAddr,
	}); err != nil {
		return fmt.Errorf("add the neighbour %v: %w", a, err)
	}
	return nil
}

func (o *outside) connectPeer() (far netlink.Link, err error) {
	err = o.do(func() error {
		if far, err = netlink.LinkByName(o.name); err != nil {
			return err
		}
		if err := o.setUp(far, peer); err != nil {
			return err
		}
		for f, a := range o.addrs {
			everything := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
			if f == tp.IPv6 {
				everything = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
			}
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: far.Attrs().Index, Dst: everything, Gw: a.near.Addr().AsSlice()}); err != nil {
				return fmt.Errorf("add a route: %w", err)
			}
		}
		return nil
	})
	return far, err
}

// ready returns once the end of the link in the namespace of the thread, which has the addresses that which gives, takes packets.
// Until then it drops them: the kernel has carriers and addresses of IPv6 on its own time.
func (o *outside) ready(which func(linkAddrs) netip.Prefix) error {
	events, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_IPV6_ROUTE)
	if err != nil {
		return fmt.Errorf("wait for the link: %w", err)
	}
	defer events.Close()
	if err := events.SetReceiveTimeout(&unix.Timeval{Sec: readyTime}); err != nil {
		return err
	}
	for {
		up, err := o.up(which)
		if up || err != nil {
			return err
		}
		if _, _, err := events.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("wait for the link: %w", err)
		}
	}
}

func (o *outside) up(which func(linkAddrs) netip.Prefix) (bool, error) {
	link, err := netlink.LinkByName(o.name)
	if err != nil {
		return false, err
	}
	up := link.Attrs().OperState == netlink.OperUp
	for _, a := range o.addrs {
		routes, err := netlink.RouteGet(which(a).Addr().AsSlice())
		up = up && err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL
	}
	return up, nil
}

func near(a linkAddrs) netip.Prefix { return a.near }
func peer(a linkAddrs) netip.Prefix { return a.peer }

func (o *outside) setUp(link netlink.Link, which func(linkAddrs) netip.Prefix) error {
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	for _, a := range o.addrs {
		if err := addAddress(link, which(a)); err != nil {
			return err
		}
	}
	return nil
}

// addAddress makes it usable at once.
func addAddress(link netlink.Link, p netip.Prefix) error {
	a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(link, a); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add the address %v: %w", p, err)
	}
	return nil
}

// send sends a packet from outside, from whichever address it says.
func (o *outside) send(t *tracker, p probe) *packet {
	var out *packet
	err := o.do(func() error {
		if p.from.IsValid() {
			far, err := netlink.LinkByName(o.name)
			if err != nil {
				return err
			}
			if err := addAddress(far, netip.PrefixFrom(p.from, p.from.BitLen())); err != nil {
				return err
			}
		}
		out = send(t, p)
		return nil
	})
	if err != nil {
		return &packet{probe: p, err: err}
	}
	return out
}
