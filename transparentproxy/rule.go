package transparentproxy

import "net/netip"

// Family is an address family.
type Family uint8

// The families, with values as in their names.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// String is the heading Kuma prints.
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// has reports whether the range is of this family.
func (f Family) has(p netip.Prefix) bool { return p.Addr().Is4() == (f == IPv4) }

// Plan is everything redirection needs of a host: a value without behaviour of its own, made by NewPlan.
type Plan struct {
	Families []FamilyPlan
	// Addresses belong on the loopback interface: Envoy connects to the application from them.
	Addresses []netip.Prefix
	// Warnings say, one sentence each, what was asked for and could not be planned.
	Warnings []string
}

// FamilyPlan is the rules of one address family.
type FamilyPlan struct {
	Family Family
	Tables []Table
}

// Table is a table with at least one rule.
type Table struct {
	Name   string
	Chains []Chain
}

// Chain is one of ours (Owned), of which Rules is the whole content, or a built-in one, to which they are added.
type Chain struct {
	Name  string
	Owned bool
	Rules []Rule
}

// Rule is one rule. All matches must hold.
type Rule struct {
	// ID names the rule within its table and family and stays the same when other rules come and go.
	ID string
	// Position is where the rule is inserted into a built-in chain, counted from 1; 0 appends it.
	Position int
	Match    []Match
	Verdict  Verdict
	// Comment is without the common prefix.
	Comment string
}

// Match is one condition: Source, Destination, InInterface, OutInterface, Protocol, SourcePort, DestinationPort, Multiport,
// Owner or InvalidState.
type Match interface{ match(*text) }

// Verdict is what happens to a packet: Jump, Return, Redirect, Zone, Log or Drop.
type Verdict interface{ verdict(*text) }

type (
	// Source matches the source address.
	Source struct {
		Prefix netip.Prefix
		// Mask prints the length of a single address too, as Kuma does for its own addresses but not for the user's.
		Mask bool
	}
	// Destination matches the destination address.
	Destination struct {
		Not    bool
		Prefix netip.Prefix
		Mask   bool // see Source
	}
	// InInterface matches the interface a packet came in by.
	InInterface struct{ Name string }
	// OutInterface matches the interface a packet leaves by.
	OutInterface struct{ Name string }
	// Protocol matches tcp or udp.
	Protocol struct {
		Name string
		// Module names the protocol's module as well, as Kuma does in some rules.
		Module bool
	}
	// SourcePort matches the source port of the rule's protocol.
	SourcePort struct{ Port uint16 }
	// DestinationPort matches the destination port of the rule's protocol.
	DestinationPort struct {
		Not   bool
		Range PortRange
	}
	// Multiport matches a protocol and a list of destination ports with at most maxMultiport slots.
	Multiport struct {
		Protocol string
		Ports    Ports
	}
	// Owner matches the user that owns the socket.
	Owner struct {
		Not  bool
		UIDs UIDRange
	}
	// InvalidState matches packets that belong to no connection.
	InvalidState struct{}
)

type (
	// Jump continues in another chain.
	Jump struct{ Chain string }
	// Return leaves the chain; in a built-in chain the packet is left alone.
	Return struct{}
	// Redirect sends the packet to a port of this host.
	Redirect struct{ Port uint16 }
	// Zone puts the packet's connection into a conntrack zone.
	Zone struct{ ID uint16 }
	// Log makes the kernel log the packet and goes on.
	Log struct {
		Prefix string
		Level  uint8
	}
	// Drop drops the packet.
	Drop struct{}
)

// Change is a difference between two plans. Kind is added, removed or changed.
type Change struct {
	Family       Family
	Table, Chain string
	ID, Kind     string
}

// Diff lists what turns plan a into plan b, in the order of the plans: first what is gone, then what is new or other. Either
// may be nil, meaning no redirection.
func Diff(a, b *Plan) []Change {
	before, after := index(a), index(b)
	var out []Change
	for _, c := range before.order {
		if _, ok := after.text[c]; !ok {
			c.Kind = "removed"
			out = append(out, c)
		}
	}
	for _, c := range after.order {
		old, ok := before.text[c]
		switch {
		case !ok:
			c.Kind = "added"
		case old != after.text[c]:
			c.Kind = "changed"
		default:
			continue
		}
		out = append(out, c)
	}
	return out
}

type planIndex struct {
	order []Change
	text  map[Change]string
}

func index(p *Plan) planIndex {
	x := planIndex{text: map[Change]string{}}
	if p == nil {
		return x
	}
	for _, f := range p.Families {
		for _, t := range f.Tables {
			for _, ch := range t.Chains {
				for _, r := range ch.Rules {
					c := Change{Family: f.Family, Table: t.Name, Chain: ch.Name, ID: r.ID}
					x.order = append(x.order, c)
					x.text[c] = r.Line(ch.Name)
				}
			}
		}
	}
	return x
}
