// Package planmodel says in plain Go what a plan of redirection does to a packet, and makes plans and packets at random. Tests
// compare backends with it. It knows how the kernel walks through rules, and nothing of how a backend writes them.
package planmodel

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// Packet is what rules can ask about: the first packet of a connection, or one that belongs to none.
type Packet struct {
	Family   tp.Family
	From, To netip.AddrPort
	// In is the interface by which it came, Out the one by which it would leave if nothing redirected it. One of them is empty.
	In, Out  string
	Protocol string
	// UID is whose process sent it. Nobody says that none did.
	UID    uint32
	Nobody bool
	// Invalid says that connection tracking makes nothing of it.
	Invalid bool
}

// Outcome is what rules did to a packet.
type Outcome struct {
	// Verdict is Redirect or Drop, nil when the packet was left alone.
	Verdict tp.Verdict
	// Zone is the conntrack zone.
	Zone uint16
	// Logs are the prefixes of its lines in the kernel's log.
	Logs string
}

// Do adds what a rule does that matches, other than Jump and Return. final says that no further rule of the table is asked.
func (o *Outcome) Do(v tp.Verdict) (final bool) {
	switch v := v.(type) {
	case tp.Zone:
		if o.Zone == 0 { // the first one counts
			o.Zone = v.ID
		}
	case tp.Log:
		o.Logs += v.Prefix
	case tp.Redirect, tp.Drop:
		o.Verdict = v
		return true
	}
	return false
}

// Walk is what the rules of a built-in chain, and of those to which it jumps, do to a packet.
func Walk(plan *tp.Plan, table, chain string, p Packet) Outcome {
	var o Outcome
	f := plan.Family(p.Family)
	if f == nil {
		return o
	}
	for _, t := range f.Tables {
		if t.Name == table {
			walk(t.Chains, chain, p, &o)
		}
	}
	return o
}

// walk sees the rules one after the other.
func walk(chains []tp.Chain, name string, p Packet, o *Outcome) (final bool) {
	at := slices.IndexFunc(chains, func(c tp.Chain) bool { return c.Name == name })
	if at < 0 {
		return false
	}
	for _, r := range chains[at].Rules {
		if slices.ContainsFunc(r.Match, func(m tp.Match) bool { return !Matches(m, p) }) {
			continue
		}
		switch v := r.Verdict.(type) {
		case tp.Return:
			return false
		case tp.Jump:
			if v.Chain == tp.ChainDocker { // nothing of ours happens there
				return true
			}
			if walk(chains, v.Chain, p, o) {
				return true
			}
		default:
			if o.Do(v) {
				return true
			}
		}
	}
	return false
}

// Fate is what all tables together do to a packet, in the order in which the kernel asks them.
func Fate(plan *tp.Plan, p Packet) Outcome {
	chain := tp.ChainPrerouting
	if p.Out != "" {
		chain = tp.ChainOutput
	}
	o := Walk(plan, tp.TableRaw, chain, p)
	for _, table := range []string{tp.TableMangle, tp.TableNAT} {
		if table == tp.TableNAT && p.Invalid { // which asks only about the first packets of connections
			continue
		}
		x := Walk(plan, table, chain, p)
		o.Logs += x.Logs
		if o.Verdict = x.Verdict; o.Verdict == (tp.Drop{}) {
			break
		}
	}
	return o
}

// Matches reports whether a packet fulfils one condition.
func Matches(m tp.Match, p Packet) bool {
	switch m := m.(type) {
	case tp.Source:
		return m.Prefix.Contains(p.From.Addr())
	case tp.Destination:
		return m.Prefix.Contains(p.To.Addr()) != m.Not
	case tp.InInterface:
		return hasName(m.Name, p.In)
	case tp.OutInterface:
		return hasName(m.Name, p.Out)
	case tp.Protocol:
		return m.Name == p.Protocol
	case tp.SourcePort:
		return m.Port == p.From.Port()
	case tp.DestinationPort:
		return m.Range.Contains(p.To.Port()) != m.Not
	case tp.Multiport:
		return m.Protocol == p.Protocol && slices.ContainsFunc(m.Ports, func(r tp.PortRange) bool { return r.Contains(p.To.Port()) })
	case tp.Owner:
		return (!p.Nobody && m.UIDs.First <= p.UID && p.UID <= m.UIDs.Last) != m.Not
	case tp.InvalidState:
		return p.Invalid
	}
	panic(fmt.Sprintf("%T", m))
}

func hasName(pattern, name string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "+"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}
