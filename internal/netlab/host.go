//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Interface is the name of a host's link to the bridge.
const Interface = "eth0"

// defaultSubnet is where hosts are put when no option says otherwise.
var defaultSubnet = netip.MustParsePrefix("10.77.0.0/24")

// Host is one namespace of a lab. Its methods may be called concurrently.
type Host struct {
	// Name is the name given to AddHost, Namespace the name under /run/netns.
	Name, Namespace string
	// Addr is the host's address on the bridge, Addr6 the IPv6 one; Addr6 is the zero Addr without the IPv6 option.
	Addr, Addr6 netip.Addr

	lab    *Lab
	handle netns.NsHandle
}

type hostConfig struct {
	subnet netip.Prefix
	ipv6   bool
}

// Option changes how a host is made.
type Option func(*hostConfig)

// Subnet puts the host into this IPv4 range, which must be a /24. The default is 10.77.0.0/24. Hosts get addresses from .2
// on, in the order they are added; .1 is the bridge, which routes between subnets.
func Subnet(p netip.Prefix) Option { return func(c *hostConfig) { c.subnet = p } }

// IPv6 gives the host an IPv6 address as well: a host at 10.77.0.2 gets fd00:77:0::2.
func IPv6() Option { return func(c *hostConfig) { c.ipv6 = true } }

// AddHost makes a namespace <prefix>-<name> linked to the bridge, with an address, loopback up and a default route.
func (l *Lab) AddHost(name string, opts ...Option) (*Host, error) {
	cfg := hostConfig{subnet: defaultSubnet}
	for _, o := range opts {
		o(&cfg)
	}
	if !validName.MatchString(name) || name == bridgeHost {
		return nil, fmt.Errorf("add host %q: the name must be lower-case letters, digits and dashes, and not %q", name, bridgeHost)
	}
	if !cfg.subnet.IsValid() || !cfg.subnet.Addr().Is4() || cfg.subnet.Bits() != 24 {
		return nil, fmt.Errorf("add host %q: subnet %v must be an IPv4 /24", name, cfg.subnet)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("add host %q: the lab is closed", name)
	}
	if l.hosts[name] != nil {
		return nil, fmt.Errorf("add host %q: the lab has it already", name)
	}
	h, err := l.newHost(name)
	if err != nil {
		return nil, err
	}
	if err := l.connect(h, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("connect host %q: %w", name, err), h.handle.Close(), l.state.removeNamespace(h.Namespace))
	}
	l.hosts[name] = h
	return h, nil
}

// connect makes the veth pair with both ends in their namespaces from the start, so that no link ever shows outside.
func (l *Lab) connect(h *Host, cfg hostConfig) error {
	bridge, err := netlink.NewHandleAt(l.bridge.handle)
	if err != nil {
		return fmt.Errorf("open netlink at the bridge: %w", err)
	}
	defer bridge.Close()
	host, err := netlink.NewHandleAt(h.handle)
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	defer host.Close()
	br, err := bridge.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	port := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: Interface, PeerNamespace: netlink.NsFd(h.handle)}
	port.Name = portName(h.Name)
	port.MasterIndex = br.Attrs().Index
	if err := bridge.LinkAdd(port); err != nil {
		return fmt.Errorf("add veth: %w", err)
	}
	if err := bridge.LinkSetUp(port); err != nil {
		return fmt.Errorf("set bridge port up: %w", err)
	}
	eth, err := host.LinkByName(Interface)
	if err != nil {
		return fmt.Errorf("find %s: %w", Interface, err)
	}
	if err := host.LinkSetUp(eth); err != nil {
		return fmt.Errorf("set %s up: %w", Interface, err)
	}
	gw, err := l.subnet(bridge, br, cfg.subnet.Masked())
	if err != nil {
		return err
	}
	h.Addr = gw.next
	if !cfg.subnet.Contains(h.Addr.Next()) { // .255 is the broadcast address
		return fmt.Errorf("no address left in %v", cfg.subnet)
	}
	gw.next = h.Addr.Next()
	if err := addAddress(host, eth, netip.PrefixFrom(h.Addr, 24)); err != nil {
		return err
	}
	first := cfg.subnet.Masked().Addr().Next()
	if err := addRoute(host, eth, "0.0.0.0/0", first); err != nil {
		return err
	}
	if !cfg.ipv6 {
		return nil
	}
	h.Addr6 = addr6(h.Addr)
	if !gw.with6 {
		if err := addAddress(bridge, br, netip.PrefixFrom(addr6(first), 64)); err != nil {
			return err
		}
		gw.with6 = true
	}
	if err := addAddress(host, eth, netip.PrefixFrom(h.Addr6, 64)); err != nil {
		return err
	}
	return addRoute(host, eth, "::/0", addr6(first))
}

// subnet returns the range's state, giving the bridge its address at first use.
func (l *Lab) subnet(nl *netlink.Handle, br netlink.Link, p netip.Prefix) (*subnet, error) {
	if s := l.subnets[p]; s != nil {
		return s, nil
	}
	gw := p.Addr().Next()
	if err := addAddress(nl, br, netip.PrefixFrom(gw, p.Bits())); err != nil {
		return nil, err
	}
	s := &subnet{next: gw.Next()}
	l.subnets[p] = s
	return s, nil
}

// AddAddress gives the host a further address, on its loopback, and tells the bridge the way to it: a resolver at a
// well-known address, for example. An IPv6 address needs a host made with IPv6.
func (h *Host) AddAddress(a netip.Addr) error {
	via := h.Addr
	if a.Is6() {
		via = h.Addr6
	}
	if !via.IsValid() {
		return fmt.Errorf("add address %v to %s: the host was made without IPv6", a, h.Namespace)
	}
	host, err := netlink.NewHandleAt(h.handle)
	if err != nil {
		return fmt.Errorf("open netlink in %s: %w", h.Namespace, err)
	}
	defer host.Close()
	lo, err := host.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback of %s: %w", h.Namespace, err)
	}
	p := netip.PrefixFrom(a, a.BitLen())
	if err := addAddress(host, lo, p); err != nil {
		return fmt.Errorf("%s: %w", h.Namespace, err)
	}
	bridge, err := netlink.NewHandleAt(h.lab.bridge.handle)
	if err != nil {
		return fmt.Errorf("open netlink at the bridge: %w", err)
	}
	defer bridge.Close()
	br, err := bridge.LinkByName(bridgeName)
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	return addRoute(bridge, br, p.String(), via)
}

// portName names the bridge's end of a host's link: short enough for the kernel and the same for the same host.
func portName(host string) string {
	if len(host) <= 13 {
		return "p-" + host
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(host)) // never fails
	return fmt.Sprintf("p-%s%08x", host[:5], sum.Sum32())
}

// addr6 writes the bytes of 10.x.y.n, as they are read in decimal, into fd00:x:y::n.
func addr6(a netip.Addr) netip.Addr {
	b := a.As4()
	return netip.MustParseAddr(fmt.Sprintf("fd00:%d:%d::%d", b[1], b[2], b[3]))
}

func addAddress(nl *netlink.Handle, link netlink.Link, p netip.Prefix) error {
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := nl.AddrAdd(link, a); err != nil {
		return fmt.Errorf("add address %v to %s: %w", p, link.Attrs().Name, err)
	}
	return nil
}

func addRoute(nl *netlink.Handle, link netlink.Link, dst string, via netip.Addr) error {
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.MustParsePrefix(dst)), Gw: via.AsSlice()}
	if err := nl.RouteAdd(r); err != nil {
		return fmt.Errorf("add route to %s via %v: %w", dst, via, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
