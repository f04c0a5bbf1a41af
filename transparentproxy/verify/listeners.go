//go:build linux

package verify

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// listener is a socket that takes what is redirected.
type listener struct {
	addr netip.AddrPort
	uid  uint32
}

func (l listener) String() string { return fmt.Sprintf("%v (uid %d)", l.addr, l.uid) }

// listeners are those at the ports of redirection, by what they are for.
type listeners struct{ outbound, inbound, tcp, udp []listener }

// States of sockets that wait for anybody, in the numbers of the kernel.
const (
	stateListen = 10
	stateClose  = 7 // of UDP
)

// findListeners asks the kernel rather than /proc/net, which shows the namespace of another thread.
func findListeners(cfg tp.Config) (l listeners, err error) {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		for _, list := range []struct {
			state  uint8
			get    func(uint8) ([]*netlink.Socket, error)
			places map[uint16]*[]listener
		}{
			{stateListen, netlink.SocketDiagTCP, map[uint16]*[]listener{cfg.Outbound.Port: &l.outbound, cfg.Inbound.Port: &l.inbound, cfg.DNS.Port: &l.tcp}},
			{stateClose, netlink.SocketDiagUDP, map[uint16]*[]listener{cfg.DNS.Port: &l.udp}},
		} {
			sockets, err := list.get(family)
			if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
				return l, fmt.Errorf("list who listens: %w", err)
			}
			for _, s := range sockets {
				addr, ok := netip.AddrFromSlice(s.ID.Source)
				if place := list.places[s.ID.SourcePort]; place != nil && s.State == list.state && ok {
					if family == unix.AF_INET {
						addr = addr.Unmap()
					}
					*place = append(*place, listener{netip.AddrPortFrom(addr, s.ID.SourcePort), s.UID})
				}
			}
		}
	}
	return l, nil
}

// diagnosis is what is wrong with a listener.
type diagnosis struct{ seen, remedy string }

func (d diagnosis) orRemedy(other string) string {
	if d.remedy != "" {
		return d.remedy
	}
	return other
}

func listenRemedy(in Input) string {
	return fmt.Sprintf("let kuma-dp answer at 127.0.0.1 and [::1], port %d, as uid %d", in.Config.DNS.Port, in.Host.UID)
}

// wrong says what keeps the answers to queries of one family from arriving (contract transparentproxy.md §0.4): they have to come
// from the address to which redirection goes, and from the user whose answers are put into the zone of the queries.
func (l listeners) wrong(in Input, f tp.Family) diagnosis {
	if d := l.foreigner(in); d.seen != "" {
		return d
	}
	at := localhost[f]
	if len(l.udp) == 0 || slices.ContainsFunc(l.udp, func(l listener) bool { return l.addr.Addr() == at }) {
		return diagnosis{}
	}
	return diagnosis{
		fmt.Sprintf("nobody listens at %v itself, only at %s", netip.AddrPortFrom(at, in.Config.DNS.Port), join(l.udp)), listenRemedy(in),
	}
}

// foreigner is a listener for queries of another user.
func (l listeners) foreigner(in Input) diagnosis {
	for _, s := range l.udp {
		if s.uid != in.Host.UID {
			return diagnosis{
				fmt.Sprintf("who listens at %v is uid %d instead of %d", s.addr, s.uid, in.Host.UID),
				fmt.Sprintf("run kuma-dp as uid %d, or install again with --kuma-dp-user %d", in.Host.UID, s.uid),
			}
		}
	}
	return diagnosis{}
}

func join(list []listener) string {
	var out []string
	for _, l := range list {
		out = append(out, l.String())
	}
	return strings.Join(out, ", ")
}

// listenerChecks look at who takes what is redirected. Before kuma-dp runs that is nobody.
func (r *run) listenerChecks() []Check {
	cfg := r.in.Config
	add := func(id, promise string, l []listener, wildcard bool) Check {
		c := Check{ID: id, Promise: promise, Result: Holds, Seen: join(l)}
		if len(l) == 0 {
			c.Seen = "nobody listens yet: what is redirected is refused until somebody does"
		}
		for _, s := range l {
			switch {
			case s.uid != r.in.Host.UID:
				c.Result, c.Seen = Broken, fmt.Sprintf("%v is uid %d instead of %d: what it sends is redirected to it again", s.addr, s.uid, r.in.Host.UID)
				c.Remedy = fmt.Sprintf("run kuma-dp and Envoy as uid %d, or install again with --kuma-dp-user %d", r.in.Host.UID, s.uid)
			case wildcard && s.addr.Addr().IsLoopback() && c.Result == Holds:
				c.Result, c.Seen = Broken, fmt.Sprintf("it listens at %v, where nothing from outside is redirected to", s.addr)
				c.Remedy = fmt.Sprintf("let Envoy listen at 0.0.0.0 and [::], port %d", cfg.Inbound.Port)
			}
		}
		return c
	}
	var out []Check
	if cfg.Outbound.Enabled {
		out = append(out, add("listener.outbound", fmt.Sprintf("only kuma-dp's user listens on port %d", cfg.Outbound.Port), r.listeners.outbound, false))
	}
	if cfg.Inbound.Enabled {
		out = append(out, add("listener.inbound", fmt.Sprintf("only kuma-dp's user listens on port %d, at all addresses", cfg.Inbound.Port), r.listeners.inbound, true))
	}
	for _, f := range r.plan.Families {
		if r.model.dnsIn(f.Family) {
			out = append(out, r.dnsListener(f.Family))
		}
	}
	return out
}

func (r *run) dnsListener(f tp.Family) Check {
	at := netip.AddrPortFrom(localhost[f], r.in.Config.DNS.Port)
	c := Check{
		ID: "listener.dns." + familyID(f), Promise: fmt.Sprintf("%v: kuma-dp answers queries at %v, as uid %d", f, at, r.in.Host.UID),
		Result: Holds, Seen: join(r.listeners.udp),
	}
	d := r.listeners.wrong(r.in, f)
	switch {
	case len(r.listeners.udp) == 0:
		c.Seen = "nobody listens yet: queries are refused until somebody does"
	case r.listeners.foreigner(r.in).seen == "" && r.answered[f]:
		// Whatever it is bound to, it answers from the right address.
	case d.seen != "":
		c.Result, c.Seen, c.Remedy = Broken, d.seen, d.remedy
	}
	return c
}

// untriedRemedy is what to do so that a promise can be tried.
func untriedRemedy(why string) string {
	if why == errOutside.Error() {
		return "run it as root of the host, or give the container CAP_SYS_ADMIN; or connect from another host"
	}
	return ""
}
