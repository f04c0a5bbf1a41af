package meshpassthrough

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// class says what a destination is told by. The values are in the order of filter chains.
type class int

const (
	classIPv6 class = iota
	classIPv4
	classRangeV6
	classRangeV4
	classDomain
	classWildcard
)

// destination is a match on one port, or on any that no other match names.
type destination struct {
	class    class
	protocol string
	// value is as written; network is what it means unless it is a domain.
	value   string
	network netip.Prefix
	port    uint32 // 0 is any
}

func (m *Match) destination() (destination, bool) {
	d := destination{protocol: m.Protocol, value: m.Value}
	if m.Port != nil {
		d.port = *m.Port
	}
	if m.Protocol == "" {
		return d, false // only what was stored before it was checked
	}
	switch m.Type {
	case TypeDomain:
		d.class = classDomain
		if strings.HasPrefix(m.Value, WildcardPrefix) {
			d.class = classWildcard
		}
		return d, true
	case TypeIP:
		ip, err := netip.ParseAddr(m.Value)
		if err != nil {
			return d, false
		}
		d.class, d.network = classIPv4, netip.PrefixFrom(ip, ip.BitLen())
		if ip.Is6() {
			d.class = classIPv6
		}
		return d, true
	case TypeCIDR:
		network, err := netip.ParsePrefix(m.Value)
		if err != nil {
			return d, false
		}
		d.class, d.network = classRangeV4, network.Masked()
		if network.Addr().Is6() {
			d.class = classRangeV6
		}
		return d, true
	}
	return d, false
}

func (m *Match) place() string {
	if m.Port == nil {
		return m.Value + " on any port"
	}
	return m.Value + ":" + strconv.FormatUint(uint64(*m.Port), 10)
}

func (d destination) domain() bool { return d.class == classDomain || d.class == classWildcard }

// concerns tells whether the destination can be one of connections of an address family.
func (d destination) concerns(ipv6 bool) bool { return d.domain() || d.network.Addr().Is6() == ipv6 }

func (d destination) http() bool {
	return d.protocol == ProtocolHTTP || d.protocol == ProtocolHTTP2 || d.protocol == ProtocolGRPC
}

func (d destination) portText() string {
	if d.port == 0 {
		return "*"
	}
	return strconv.FormatUint(uint64(d.port), 10)
}

// cluster names the cluster, and the chain of all but domains of HTTP.
func (d destination) cluster() string {
	return "meshpassthrough_" + d.protocol + "_" + d.value + "_" + d.portText()
}

// chain names the filter chain: domains of HTTP share one for each protocol and port, as they are told apart by routes.
func (d destination) chain() string {
	if d.http() && d.domain() {
		return "meshpassthrough_" + d.protocol + "_" + d.portText()
	}
	return d.cluster()
}

// takes is equal for destinations that Envoy cannot tell apart, with the protocol that decides between them.
func (d destination) takes() (place, protocol string) {
	layer := d.protocol
	if d.http() {
		layer = ProtocolHTTP
	}
	what := strings.ToLower(d.value)
	switch {
	case d.http() && d.domain():
		what, protocol = "", d.protocol
	case !d.domain():
		what, protocol = d.network.String(), d.protocol+" "+d.value
	}
	return strings.Join([]string{layer, what, d.portText()}, " "), protocol
}

// withoutClashes leaves out matches that contradict one of higher precedence, which comes later in a merged list: Envoy
// refuses a listener with two chains for the same connections. One policy alone cannot contradict itself so, but several
// can.
func withoutClashes(matches []Match) (kept, dropped []Match) {
	winner := map[string]string{}
	for _, m := range slices.Backward(matches) {
		d, ok := m.destination()
		if !ok {
			dropped = append(dropped, m)
			continue
		}
		place, protocol := d.takes()
		if won, found := winner[place]; found && won != protocol {
			dropped = append(dropped, m)
			continue
		}
		winner[place] = protocol
		kept = append(kept, m)
	}
	slices.Reverse(kept)
	slices.Reverse(dropped)
	return kept, dropped
}

// destinations are the matches in the order of their chains and routes, each once. One for any port is repeated for every
// port that another names: Envoy looks at the port first and never comes back to chains without one. With apart it is not
// where Envoy could not tell it from one that names the port; Kuma makes two chains then, for which Envoy refuses the listener.
func destinations(matches []Match, apart bool) []destination {
	var named []uint32
	taken := map[string]string{}
	for _, m := range matches {
		if m.Port == nil {
			continue
		}
		if !slices.Contains(named, *m.Port) {
			named = append(named, *m.Port)
		}
		if d, ok := m.destination(); ok {
			place, protocol := d.takes()
			taken[place] = protocol
		}
	}
	seen := map[string]bool{}
	var out []destination
	add := func(d destination) {
		if key := strings.ToLower(d.cluster()); !seen[key] {
			seen[key] = true
			out = append(out, d)
		}
	}
	for _, m := range matches {
		d, ok := m.destination()
		if !ok {
			continue
		}
		add(d)
		if d.port == 0 {
			for _, port := range named {
				d.port = port
				place, protocol := d.takes()
				if by, found := taken[place]; !apart || !found || by == protocol {
					add(d)
				}
			}
		}
	}
	slices.SortFunc(out, compare)
	return out
}

// compare orders as contract effects-security.md §11 says.
func compare(a, b destination) int {
	rank := func(d destination) int {
		return slices.Index([]string{ProtocolTLS, ProtocolTCP, ProtocolHTTP, ProtocolHTTP2, ProtocolGRPC}, d.protocol)
	}
	if c := cmp.Compare(rank(a), rank(b)); c != 0 {
		return c
	}
	classOf := func(d destination) class {
		if d.http() && d.domain() {
			return classDomain
		}
		return d.class
	}
	c := cmp.Or(cmp.Compare(classOf(a), classOf(b)), cmp.Compare(b.port, a.port), cmp.Compare(a.class, b.class))
	switch {
	case c != 0:
		return c
	case a.domain():
		return cmp.Or(cmp.Compare(strings.Count(b.value, "."), strings.Count(a.value, ".")), strings.Compare(a.value, b.value))
	default:
		return cmp.Or(cmp.Compare(b.network.Bits(), a.network.Bits()), strings.Compare(b.value, a.value))
	}
}
