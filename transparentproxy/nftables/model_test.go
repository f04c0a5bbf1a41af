//go:build linux

package nftables

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// packet is what rules can ask about.
type packet struct {
	family   tp.Family
	from, to netip.AddrPort
	in, out  string
	protocol string
	uid      uint32
	nobody   bool // no process sent it
	invalid  bool
}

// outcome is what rules did to a packet.
type outcome struct {
	verdict tp.Verdict // nil when it was left alone
	zone    uint16     // the first one counts
	logs    string
}

func (o *outcome) do(v tp.Verdict) (final bool) {
	switch v := v.(type) {
	case tp.Zone:
		if o.zone == 0 {
			o.zone = v.ID
		}
	case tp.Log:
		o.logs += v.Prefix
	case tp.Redirect, tp.Drop:
		o.verdict = v
		return true
	}
	return false
}

// walkPlan is what iptables does: see the rules one after the other.
func walkPlan(chains []tp.Chain, name string, p packet, o *outcome) (final bool) {
	at := slices.IndexFunc(chains, func(c tp.Chain) bool { return c.Name == name })
	if at < 0 {
		return false
	}
	for _, r := range chains[at].Rules {
		if !slices.ContainsFunc(r.Match, func(m tp.Match) bool { return !planMatches(m, p) }) {
			switch v := r.Verdict.(type) {
			case tp.Return:
				return false
			case tp.Jump:
				if v.Chain == tp.ChainDocker { // nothing of ours happens there
					return true
				}
				if walkPlan(chains, v.Chain, p, o) {
					return true
				}
			default:
				if o.do(v) {
					return true
				}
			}
		}
	}
	return false
}

func planMatches(m tp.Match, p packet) bool {
	hasName := func(pattern, name string) bool {
		if prefix, ok := strings.CutSuffix(pattern, "+"); ok {
			return strings.HasPrefix(name, prefix)
		}
		return pattern == name
	}
	switch m := m.(type) {
	case tp.Source:
		return m.Prefix.Contains(p.from.Addr())
	case tp.Destination:
		return m.Prefix.Contains(p.to.Addr()) != m.Not
	case tp.InInterface:
		return hasName(m.Name, p.in)
	case tp.OutInterface:
		return hasName(m.Name, p.out)
	case tp.Protocol:
		return m.Name == p.protocol
	case tp.SourcePort:
		return m.Port == p.from.Port()
	case tp.DestinationPort:
		return m.Range.Contains(p.to.Port()) != m.Not
	case tp.Multiport:
		return m.Protocol == p.protocol && slices.ContainsFunc(m.Ports, func(r tp.PortRange) bool { return r.Contains(p.to.Port()) })
	case tp.Owner:
		return (!p.nobody && m.UIDs.First <= p.uid && p.uid <= m.UIDs.Last) != m.Not
	case tp.InvalidState:
		return p.invalid
	}
	panic(fmt.Sprintf("%T", m))
}

// walkTable is what nf_tables does with our rules.
func walkTable(t table, name string, p packet, o *outcome) (final bool) {
	at := slices.IndexFunc(t.chains, func(c chain) bool { return c.name == name })
	if at < 0 {
		return false
	}
	for _, r := range t.chains[at].rules {
		if r.family != 0 && r.family != p.family || r.protocol != "" && r.protocol != p.protocol ||
			slices.ContainsFunc(r.conditions, func(c condition) bool { return !c.matches(p) }) {
			continue
		}
		switch v := r.verdict.(type) {
		case tp.Return:
			return false
		case tp.Jump:
			if walkTable(t, v.Chain, p, o) {
				return true
			}
		default:
			if o.do(v) {
				return true
			}
		}
	}
	return false
}

func (c condition) matches(p packet) bool {
	port := func(n uint16) string { return string(binary.BigEndian.AppendUint16(nil, n)) }
	var value string
	switch c.field {
	case inInterface:
		return planMatches(tp.InInterface{Name: c.name}, p)
	case outInterface:
		return planMatches(tp.OutInterface{Name: c.name}, p)
	case invalidState:
		return p.invalid
	case source:
		value = string(p.from.Addr().AsSlice())
	case destination:
		value = string(p.to.Addr().AsSlice())
	case sourcePort:
		value = port(p.from.Port())
	case destinationPort:
		value = port(p.to.Port())
	case owner:
		if p.nobody { // `meta skuid` has no value, which ends the rule whatever it asks
			return false
		}
		value = string(binary.BigEndian.AppendUint32(nil, p.uid))
	}
	if len(value) != len(c.spans[0].first) { // of the other family
		return false
	}
	return slices.ContainsFunc(c.spans, func(s span) bool { return s.first <= value && value <= s.last }) != c.not
}

// TestTableDoesWhatThePlanSays compares, for random plans and packets, what iptables would do with the plan and nf_tables
// with the table: joining families and rules, leaving out conditions and the order must not change anything.
func TestTableDoesWhatThePlanSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plan := anyPlan(t)
		joint := must(compile(plan, unix.NFPROTO_INET))
		split := must(compile(plan, 0))
		for range 60 {
			p := anyPacket(t, plan)
			for _, c := range []struct{ table, chain string }{
				{tp.TableRaw, tp.ChainPrerouting},
				{tp.TableRaw, tp.ChainOutput},
				{tp.TableNAT, tp.ChainPrerouting},
				{tp.TableNAT, tp.ChainOutput},
				{tp.TableMangle, tp.ChainPrerouting},
			} {
				q := p
				if c.chain == tp.ChainOutput {
					q.in = ""
				} else {
					q.out, q.nobody = "", true
				}
				var want outcome
				if f := plan.Family(q.family); f != nil {
					for _, pt := range f.Tables {
						if pt.Name == c.table {
							walkPlan(pt.Chains, c.chain, q, &want)
						}
					}
				}
				name := c.table + "_" + strings.ToLower(c.chain)
				var got, gotSplit outcome
				walkTable(joint[0], name, q, &got)
				for _, s := range split {
					if (s.family == unix.NFPROTO_IPV6) == (q.family == tp.IPv6) {
						walkTable(s, name, q, &gotSplit)
					}
				}
				if got != want || gotSplit != want {
					t.Fatalf("%s, %+v:\ngot  %+v\nsplit %+v\nwant %+v\n%s\n%s", name, q, got, gotSplit, want, joint[0].text(), plan.Text(tp.TextOptions{NoComments: true}))
				}
			}
		}
	})
}

// anyPacket is made of values that the plan asks about, and their neighbours.
func anyPacket(t *rapid.T, plan *tp.Plan) packet {
	ports := []uint16{0, 53, 8080, 15053, 65535}
	uids := []uint32{0, 5678, 1003}
	v4 := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.6"), netip.MustParseAddr("10.77.0.1")}
	v6 := []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("::6"), netip.MustParseAddr("fd77::1")}
	span := func(r tp.PortRange) { ports = append(ports, r.First-1, r.First, r.Last, r.Last+1) }
	address := func(p netip.Prefix) {
		last, _ := netip.AddrFromSlice([]byte(prefixSpan(p).last))
		list := &v4
		if p.Addr().Is6() {
			list = &v6
		}
		for _, a := range []netip.Addr{p.Addr(), p.Addr().Prev(), last, last.Next()} {
			if a.IsValid() {
				*list = append(*list, a)
			}
		}
	}
	for _, f := range plan.Families {
		for _, pt := range f.Tables {
			for _, c := range pt.Chains {
				for _, r := range c.Rules {
					for _, m := range r.Match {
						switch m := m.(type) {
						case tp.Source:
							address(m.Prefix)
						case tp.Destination:
							address(m.Prefix)
						case tp.DestinationPort:
							span(m.Range)
						case tp.Multiport:
							for _, r := range m.Ports {
								span(r)
							}
						case tp.Owner:
							uids = append(uids, m.UIDs.First-1, m.UIDs.First, m.UIDs.Last, m.UIDs.Last+1)
						}
					}
				}
			}
		}
	}
	interfaces := rapid.SampledFrom([]string{"lo", "eth0", "docker0", "br1", "a.b@c-d_e", "fifteen-letters", "fourteen-char1"})
	port := rapid.SampledFrom(ports)
	addr := rapid.SampledFrom(v4)
	p := packet{family: rapid.SampledFrom([]tp.Family{tp.IPv4, tp.IPv6}).Draw(t, "family")}
	if p.family == tp.IPv6 {
		addr = rapid.SampledFrom(v6)
	}
	p.from = netip.AddrPortFrom(addr.Draw(t, "from"), port.Draw(t, "source port"))
	p.to = netip.AddrPortFrom(addr.Draw(t, "to"), port.Draw(t, "destination port"))
	p.in, p.out = interfaces.Draw(t, "in"), interfaces.Draw(t, "out")
	p.protocol = rapid.SampledFrom([]string{"tcp", "udp", "icmp"}).Draw(t, "protocol")
	p.uid = rapid.SampledFrom(uids).Draw(t, "uid")
	p.nobody = rapid.IntRange(0, 4).Draw(t, "nobody") == 0
	p.invalid = rapid.Bool().Draw(t, "invalid")
	return p
}
