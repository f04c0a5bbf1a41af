package transparentproxy

import (
	"cmp"
	"fmt"
	"slices"
)

// contains reports whether any range holds the port.
func (p Ports) contains(port uint16) bool {
	return slices.ContainsFunc(p, func(r PortRange) bool { return r.Contains(port) })
}

// overlap returns ports that both lists hold.
func (p Ports) overlap(other Ports) (PortRange, bool) {
	for _, a := range p {
		for _, b := range other {
			if r := (PortRange{max(a.First, b.First), min(a.Last, b.Last)}); r.First <= r.Last {
				return r, true
			}
		}
	}
	return PortRange{}, false
}

// unique returns the ranges in their order without repetitions.
func (p Ports) unique() Ports {
	var out Ports
	for _, r := range p {
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

// split cuts the list into pieces of at most so many slots; a range takes two.
func (p Ports) split(slots int) []Ports {
	var out []Ports
	var piece Ports
	used := 0
	for _, r := range p.unique() {
		n := 1
		if r.First != r.Last {
			n = 2
		}
		if used+n > slots {
			out, piece, used = append(out, piece), nil, 0
		}
		piece, used = append(piece, r), used+n
	}
	if len(piece) > 0 {
		out = append(out, piece)
	}
	return out
}

// protocols lists what the exclusion covers, TCP first.
func (e UIDExclusion) protocols() []string {
	var out []string
	if e.TCP {
		out = append(out, "tcp")
	}
	if e.UDP {
		out = append(out, "udp")
	}
	return out
}

// vnets returns the virtual networks of this family, by name of interface and each once.
func (b *builder) vnets() []VNet {
	var out []VNet
	for _, v := range b.cfg.VNets {
		if b.family.has(v.Network) {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(x, y VNet) int {
		return cmp.Or(cmp.Compare(x.Interface, y.Interface), x.Network.Compare(y.Network))
	})
	return slices.Compact(out)
}

// exclusion is one rule's worth of an exclusion by uid.
type exclusion struct {
	id, protocol string
	ports        Ports
	uids         UIDRange
}

// uidExclusions cuts the exclusions by uid into rules, each once.
func (o Outbound) uidExclusions() []exclusion {
	var out []exclusion
	seen := map[string]bool{}
	for _, e := range o.ExcludeUIDs {
		for _, proto := range e.protocols() {
			for _, ports := range e.Ports.split(maxMultiport) {
				id := fmt.Sprintf("exclude.uid.%s.%s.%v", e.UIDs.words(), proto, ports)
				if !seen[id] {
					seen[id] = true
					out = append(out, exclusion{id, proto, ports, e.UIDs})
				}
			}
		}
	}
	return out
}
