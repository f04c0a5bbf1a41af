package meshpassthrough

import (
	"net/netip"
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

var _ policy.Targeted = (*Spec)(nil)

// CheckSchema implements resource.SchemaChecker.
func (s *Spec) CheckSchema() []resource.Violation {
	return policy.CheckSchema(s, func(f *resource.Faults, p resource.Path, c *Conf) {
		f.OneOf(p.Field("passthroughMode"), c.PassthroughMode, ModeAll, ModeMatched, ModeNone)
		for i, m := range c.AppendMatch {
			p := p.Field("appendMatch").Index(i)
			f.OneOf(p.Field("type"), m.Type, TypeDomain, TypeIP, TypeCIDR)
			f.OneOf(p.Field("protocol"), m.Protocol, ProtocolTCP, ProtocolTLS, ProtocolGRPC, ProtocolHTTP, ProtocolHTTP2)
		}
	})
}

// Validate implements resource.Spec (contract policies.md §3.1, §3.17).
func (s *Spec) Validate(meta *resource.Meta) []resource.Violation {
	grammar := policy.Grammar{Top: []string{policy.Mesh, policy.MeshSubset}}
	return policy.Validate(s, meta, grammar, validateConf)
}

func validateConf(f *resource.Faults, p resource.Path, c *Conf) {
	type place struct {
		port            uint32
		value, protocol string
	}
	seen := map[place]bool{}
	layer7 := map[uint32]string{}
	for i, m := range c.AppendMatch {
		p := p.Field("appendMatch").Index(i)
		m.validate(f, p)
		// Zero is any port: two matches for it clash like those for a number.
		var port uint32
		if m.Port != nil {
			port = *m.Port
		}
		if m.isLayer7() {
			if other := layer7[port]; other != "" && other != m.Protocol {
				f.Add(p.Field("port"), "using the same port in multiple matches requires the same protocol for the following protocols: [grpc http http2]")
			}
			layer7[port] = m.Protocol
		}
		at := place{port, m.Value, m.Protocol}
		if seen[at] {
			f.Add(p.Field("value"), "value "+m.Value+" is already defiend for this port and protocol")
		}
		seen[at] = true
	}
}

func (m *Match) validate(f *resource.Faults, p resource.Path) {
	if m.Port != nil && (*m.Port < 1 || *m.Port > 65535) {
		f.Add(p.Field("port"), "port must be in the range [1, 65535]")
	}
	// Values that exist but are not in the list are the schema's matter.
	if m.Protocol == "" {
		f.Add(p.Field("protocol"), `"protocol" must be one of ["tcp", "tls", "grpc", "http", "http2"]`)
	}
	switch m.Type {
	case TypeDomain:
		m.validateDomain(f, p)
	case TypeIP:
		if ip, err := netip.ParseAddr(m.Value); err != nil || ip.Zone() != "" {
			f.Add(p.Field("value"), "provided IP has incorrect value")
		}
	case TypeCIDR:
		if _, err := netip.ParsePrefix(m.Value); err != nil {
			f.Add(p.Field("value"), "provided CIDR has incorrect value")
		}
	default:
		f.Add(p.Field("type"), `"type" must be one of ["Domain", "IP", "CIDR"]`)
	}
}

func (m *Match) validateDomain(f *resource.Faults, p resource.Path) {
	if m.Protocol == ProtocolTCP {
		// Only the address of a bare TCP connection is seen.
		f.Add(p.Field("protocol"), "protocol tcp is not supported for a domain")
	}
	name, wildcard := strings.CutPrefix(m.Value, WildcardPrefix)
	switch {
	case !wildcard && strings.HasPrefix(m.Value, "*"):
		f.Add(p.Field("value"), "provided DNS has incorrect value, partial wildcard is currently not supported")
	case !isDomain(name):
		f.Add(p.Field("value"), "provided DNS has incorrect value")
	}
	if wildcard && m.Port == nil && m.isLayer7() {
		f.Add(p.Field("port"), "wildcard domains doesn't work for all ports and layer 7 protocol")
	}
}

func (m *Match) isLayer7() bool {
	return m.Protocol == ProtocolGRPC || m.Protocol == ProtocolHTTP || m.Protocol == ProtocolHTTP2
}

// isDomain takes names in any case and with underscores, as they exist; an address is none.
func isDomain(s string) bool {
	const maxName, maxLabel = 253, 63
	if _, err := netip.ParseAddr(s); err == nil || len(s) > maxName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabel || strings.HasPrefix(label, "-") {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}
