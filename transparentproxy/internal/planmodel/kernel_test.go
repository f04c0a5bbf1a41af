//go:build linux

package planmodel_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/planmodel"
	"github.com/kuma-dp/kuma-dp/transparentproxy/iptables"
	"github.com/kuma-dp/kuma-dp/transparentproxy/nftables"
)

// firstPort is where the source ports begin of packets that do not care.
const firstPort = 20000

// kernel is a host whose rules a backend makes, with interfaces at whose other end stands the test. A packet that is written
// there has passed the host, and one that is sent has left it, when the system call returns.
type kernel struct {
	name    string
	host    *netlab.Host
	backend redirectlab.Backend
	links   map[string]int // file descriptors
	news    int            // of connections

	port uint16
	used map[flow]bool // by connections, in both directions

	seen map[string]int // what became of packets so far
}

// flow is what tells connections apart before the source address is known.
type flow struct {
	protocol string
	port     uint16
	to       netip.AddrPort
}

// verdict is what became of a packet.
type verdict struct {
	Passed bool
	// To is where it went, unless it was of no connection, which is never redirected.
	To   netip.AddrPort
	Zone uint16
}

func newKernels(t *testing.T, prefix string) []*kernel {
	t.Helper()
	names := []string{"nftables", "iptables-nft", "iptables-legacy"}
	var out []*kernel
	for i, h := range redirectlab.NewHosts(t, prefix, names...) {
		k := &kernel{name: names[i], host: h, links: map[string]int{}, news: -1, seen: map[string]int{}}
		t.Cleanup(k.close)
		dir := t.TempDir() + "/state"
		if i == 0 {
			k.backend = nftables.New(nftables.Config{StateDir: dir})
		} else {
			flavour := []iptables.Flavour{iptables.NFT, iptables.Legacy}[i-1]
			b, err := iptables.New(t.Context(), iptables.Config{Wait: iptables.DefaultWait, Flavour: flavour, StateDir: dir})
			if err != nil {
				t.Fatal(err)
			}
			k.backend = b
			// Docker's own redirection is done with a packet.
			redirectlab.Shell(t, h, "", fmt.Sprintf("for c in iptables ip6tables; do $c-%[1]s -t nat -N %[2]s; $c-%[1]s -t nat -A %[2]s -j ACCEPT; done", flavour, tp.ChainDocker))
		}
		if err := h.Do(k.prepare); err != nil {
			t.Fatal(err)
		}
		// Connections are tracked in both families whatever the plan.
		redirectlab.Shell(t, h, "", `ip link del eth0-lab
ip route add default dev eth0; ip -6 route add default dev eth0
nft 'add table inet watch; add chain inet watch tracked { type filter hook input priority 0; }; add rule inet watch tracked ct state new counter'`)
		if err := h.Do(k.settle); err != nil {
			t.Fatal(err)
		}
		out = append(out, k)
	}
	return out
}

// settle waits until packets to all own IPv6 addresses pass: the kernel makes their routes by and by.
func (k *kernel) settle() error {
	own := []netip.Addr{passthrough[tp.IPv6]}
	for _, l := range links {
		own = append(own, l.addrs[tp.IPv6].Addr())
	}
	deadline := time.Now().Add(redirectlab.Patience)
	for _, a := range own {
		s := shot{Family: tp.IPv6, Protocol: "udp", From: netip.AddrPortFrom(netip.Addr{}, firstPort), To: netip.AddrPortFrom(a, 9)}
		for there := false; !there; {
			if time.Now().After(deadline) {
				return fmt.Errorf("nothing passes to %v", a)
			}
			if err := s.send(); err != nil && !errors.Is(err, unix.ENETUNREACH) {
				return err
			}
			c, heard, err := nextConnection(k.news, 50*time.Millisecond)
			if err != nil {
				return err
			}
			there = heard && c.original.to == s.To
		}
	}
	return nil
}

func (k *kernel) close() {
	for _, fd := range k.links {
		_ = unix.Close(fd)
	}
	if k.news >= 0 {
		_ = unix.Close(k.news)
	}
}

// prepare runs in the namespace.
func (k *kernel) prepare() error {
	for path, value := range map[string]string{
		"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
		// The kernel would choose a link-local address to redirect to.
		"ipv6/conf/default/addr_gen_mode": "1",
	} {
		if err := writeFile("/proc/sys/net/"+path, value); err != nil {
			return err
		}
	}
	old, err := netlink.LinkByName(netlab.Interface)
	if err == nil {
		err = errors.Join(netlink.LinkSetDown(old), netlink.LinkSetName(old, "eth0-lab"))
	}
	if err != nil {
		return err
	}
	for _, l := range links {
		if err := k.addLink(l); err != nil {
			return fmt.Errorf("make link %s: %w", l.name, err)
		}
	}
	// Whether or not the plan needs it: else what is sent there would go elsewhere from time to time.
	if err := addAddress("lo", netip.PrefixFrom(passthrough[tp.IPv6], 128)); err != nil {
		return err
	}
	k.news, err = watchConnections()
	return err
}

func (k *kernel) addLink(l link) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	k.links[l.name] = fd
	req, err := unix.NewIfreq(l.name)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return err
	}
	for _, p := range l.addrs {
		if err := addAddress(l.name, p); err != nil {
			return err
		}
	}
	dev, err := netlink.LinkByName(l.name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(dev)
}

func addAddress(name string, p netip.Prefix) error {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	a, err := netlink.ParseAddr(p.String())
	if err != nil {
		return err
	}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	return netlink.AddrAdd(dev, a)
}

func writeFile(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set %s: %w", path, err)
	}
	_, err = unix.Write(fd, []byte(value))
	return errors.Join(err, unix.Close(fd))
}

// apply makes the host follow a plan and forget all connections.
func (k *kernel) apply(ctx context.Context, plan *tp.Plan) error {
	k.port, k.used = firstPort, map[flow]bool{}
	return k.host.Do(func() error {
		if err := k.backend.Apply(ctx, plan); err != nil {
			return err
		}
		return netlink.ConntrackTableFlush(netlink.ConntrackTable)
	})
}

// disagreement is a packet with which the kernel does something else than a plan says.
type disagreement struct {
	shot      shot
	packet    planmodel.Packet
	want, got verdict
}

// try sends packets and returns those of which the kernel does not make what the plan says, and how many were sent.
func (k *kernel) try(plan *tp.Plan, shots []shot) (wrong []disagreement, sent int, err error) {
	err = k.host.Do(func() error {
		for _, s := range shots {
			if s.From.Port() == 0 {
				k.port++
				if k.port == s.To.Port() { // the kernel would connect it to itself
					k.port++
				}
				s.From = netip.AddrPortFrom(s.From.Addr(), k.port)
			}
			if k.used[flow{s.Protocol, s.From.Port(), s.To}] { // it would be a further packet of a connection
				continue
			}
			p, got, err := k.fire(plan, s)
			if err != nil {
				return fmt.Errorf("%v: %w", s, err)
			}
			sent++
			k.seen[s.kind(got)]++
			if want := s.expected(planmodel.Fate(plan, p)); want != got {
				wrong = append(wrong, disagreement{s, p, want, got})
			}
		}
		return nil
	})
	return wrong, sent, err
}

// fire sends a packet and returns what the model is to be asked, and what became of it.
func (k *kernel) fire(plan *tp.Plan, s shot) (p planmodel.Packet, got verdict, err error) {
	p = planmodel.Packet{Family: s.Family, Protocol: s.Protocol, From: s.From, To: s.To, In: s.Via, UID: s.UID, Nobody: s.Via != "", Invalid: s.Invalid}
	if s.Via == "" {
		p.Out = "eth0"
		if isLocal(s.To.Addr()) {
			p.Out = "lo"
		}
		err = s.send()
	} else {
		k.drain(s)
		_, err = unix.Write(k.links[s.Via], s.bytes())
	}
	if err != nil {
		return p, got, err
	}
	if s.Invalid {
		got.Passed = k.drain(s)
	} else {
		wait := redirectlab.Patience
		if planmodel.Fate(plan, p).Verdict == (tp.Drop{}) {
			wait = 0
		}
		for !got.Passed {
			c, there, err := nextConnection(k.news, wait)
			if err != nil {
				return p, got, err
			}
			if !there {
				break
			}
			for _, t := range []tuple{c.original, c.reply} {
				k.used[flow{c.protocol, t.from.Port(), t.to}] = true
			}
			if c.protocol == s.Protocol && c.original.from.Port() == s.From.Port() && c.original.to == s.To {
				p.From = c.original.from
				got = verdict{true, c.reply.from, c.zone}
			}
		}
	}
	return p, got, nil
}

// kind names a verdict without the particulars.
func (s shot) kind(v verdict) string {
	way := "sent"
	if s.Via != "" {
		way = "coming in"
	}
	what := "left alone"
	switch {
	case !v.Passed:
		what = "dropped"
	case v.Zone != 0:
		what = fmt.Sprintf("in zone %d", v.Zone)
	case v.To.IsValid() && v.To != s.To:
		what = "redirected"
	}
	return fmt.Sprintf("%v %s %s %s", s.Family, s.Protocol, way, what)
}

// expected is what can be seen of an outcome.
func (s shot) expected(o planmodel.Outcome) verdict {
	switch v := o.Verdict.(type) {
	case tp.Drop:
		return verdict{}
	case tp.Redirect:
		to := localhost[s.Family]
		for _, l := range links {
			if l.name == s.Via {
				to = l.addrs[s.Family].Addr()
			}
		}
		return verdict{true, netip.AddrPortFrom(to, v.Port), o.Zone}
	}
	if s.Invalid {
		return verdict{Passed: true}
	}
	return verdict{true, s.To, o.Zone}
}

// send has a process of the user send it.
func (s shot) send() error {
	domain, kind := unix.AF_INET, unix.SOCK_STREAM
	if s.Family == tp.IPv6 {
		domain = unix.AF_INET6
	}
	if s.Protocol == "udp" {
		kind = unix.SOCK_DGRAM
	}
	before, err := unix.SetfsuidRetUid(int(s.UID)) // which is what the kernel stores in a socket
	if err != nil {
		return err
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if _, e := unix.SetfsuidRetUid(before); err != nil || e != nil {
		return errors.Join(err, e)
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, sockaddr(s.Family, s.From)); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if s.Protocol == "udp" {
		return unix.Sendto(fd, []byte("?"), 0, sockaddr(s.Family, s.To))
	}
	if err := unix.Connect(fd, sockaddr(s.Family, s.To)); err != nil && !errors.Is(err, unix.EINPROGRESS) && !errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

func sockaddr(f tp.Family, a netip.AddrPort) unix.Sockaddr {
	if f == tp.IPv6 {
		sa := &unix.SockaddrInet6{Port: int(a.Port())}
		if a.Addr().IsValid() {
			sa.Addr = a.Addr().As16()
		}
		return sa
	}
	sa := &unix.SockaddrInet4{Port: int(a.Port())}
	if a.Addr().IsValid() {
		sa.Addr = a.Addr().As4()
	}
	return sa
}

// drain takes all packets that have left the host and says whether this one was among them, forwarded or answered.
func (k *kernel) drain(s shot) (seen bool) {
	from, to := s.bytes(), s
	to.From, to.To = s.To, s.From
	answer := to.bytes()
	buf := make([]byte, 2048)
	for _, fd := range k.links {
		for {
			n, err := unix.Read(fd, buf)
			if err != nil {
				break
			}
			b := buf[:n]
			seen = seen || sameEnds(b, from) || sameEnds(b, answer)
		}
	}
	return seen
}

// sameEnds reports whether two packets are of the same protocol, addresses and ports.
func sameEnds(a, b []byte) bool {
	first, last, protocol := 12, 24, 9
	if b[0]>>4 == 6 {
		first, last, protocol = 8, 44, 6
	}
	return len(a) >= last && a[0]>>4 == b[0]>>4 && a[protocol] == b[protocol] && string(a[first:last]) == string(b[first:last])
}

func (d disagreement) String() string {
	return fmt.Sprintf("%v:\n  the model says %+v\n  the kernel     %+v\n", d.shot, d.want, d.got)
}
