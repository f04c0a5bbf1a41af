package transparentproxy

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrNoZones is of a plan that splits conntrack zones, on a kernel that has none.
var ErrNoZones = errors.New("this kernel has no conntrack zones")

// Names of tables, built-in chains and our chains. All of ours, of any version, begin with ChainPrefix.
const (
	TableRaw    = "raw"
	TableNAT    = "nat"
	TableMangle = "mangle"

	ChainPrerouting = "PREROUTING"
	ChainOutput     = "OUTPUT"

	ChainPrefix           = "KUMA_MESH_"
	ChainInbound          = ChainPrefix + "INBOUND"
	ChainOutbound         = ChainPrefix + "OUTBOUND"
	ChainInboundRedirect  = ChainPrefix + "INBOUND_REDIRECT"
	ChainOutboundRedirect = ChainPrefix + "OUTBOUND_REDIRECT"

	// ChainDocker is Docker's chain of DNS redirection inside containers of custom networks.
	ChainDocker = "DOCKER_OUTPUT"
)

const (
	dnsPort = 53
	// zoneUpstream holds the queries of the agent, zoneMesh those of applications to the agent: the kernel decides about
	// redirection once per conntrack entry, and an application and the agent may use the same port to the same server.
	zoneUpstream = 1
	zoneMesh     = 2
)

// Addresses with a meaning of their own. Envoy connects to the application from passthrough4 and passthrough6.
var (
	localhost4   = netip.MustParsePrefix("127.0.0.1/32")
	localhost6   = netip.MustParsePrefix("::1/128")
	passthrough4 = netip.MustParsePrefix("127.0.0.6/32")
	passthrough6 = netip.MustParsePrefix("::6/128")
)

// Host is what a plan needs to know of the machine. Detect fills it, and the backend what only it can see.
type Host struct {
	// UID is the user whose traffic is never redirected.
	UID uint32
	// IPv6 says that some interface has an IPv6 address other than loopback's.
	IPv6 bool
	// Nameservers are the DNS servers of resolv.conf, in its order.
	Nameservers []netip.Addr
	// ConntrackZones says that the kernel can put connections into zones.
	ConntrackZones bool
	// Docker4 and Docker6 say that the chain DOCKER_OUTPUT exists.
	Docker4, Docker6 bool
}

// NewPlan works out the rules for a configuration on a host. It reads nothing and changes nothing. It fails when the
// configuration is not valid; what the host cannot do becomes a warning of the plan.
func NewPlan(cfg Config, host Host) (*Plan, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("plan redirection: %w", err)
	}
	p := &Plan{}
	families := []Family{IPv4}
	if cfg.IPFamilyMode == DualStack && host.IPv6 {
		families = append(families, IPv6)
		p.Addresses = []netip.Prefix{passthrough6}
	}
	for _, f := range families {
		b := newBuilder(cfg, host, f)
		p.Families = append(p.Families, FamilyPlan{Family: f, Tables: b.tables()})
		p.Warnings = append(p.Warnings, b.warnings...)
	}
	return p, nil
}

// Family returns the rules of one family, nil if it is not redirected.
func (p *Plan) Family(f Family) *FamilyPlan {
	for i := range p.Families {
		if p.Families[i].Family == f {
			return &p.Families[i]
		}
	}
	return nil
}

// builder makes the rules of one family.
type builder struct {
	cfg    Config
	family Family

	localhost, passthrough netip.Prefix
	dp, others             Owner
	dpName                 string

	dns      bool         // DNS is redirected in this family
	servers  []netip.Addr // whose queries are; empty for all servers
	zones    bool         // with conntrack zones
	docker   bool         // DOCKER_OUTPUT exists
	warnings []string
}

func newBuilder(cfg Config, host Host, f Family) *builder {
	dp := UIDRange{host.UID, host.UID}
	b := &builder{
		cfg: cfg, family: f, localhost: localhost4, passthrough: passthrough4,
		dp: Owner{UIDs: dp}, others: Owner{Not: true, UIDs: dp}, dpName: fmt.Sprintf("UID %d (kuma-dp user)", host.UID),
		dns: cfg.DNS.On(), docker: host.Docker4,
	}
	if f == IPv6 {
		b.localhost, b.passthrough, b.docker = localhost6, passthrough6, host.Docker6
	}
	if b.dns && !cfg.DNS.CaptureAll {
		for _, a := range host.Nameservers {
			if a.Is4() == (f == IPv4) {
				b.servers = append(b.servers, a.WithZone(""))
			}
		}
		if len(b.servers) == 0 {
			b.dns = false
			b.warn("no %v DNS server in %s: %v DNS queries are not redirected", f, cfg.DNS.ResolvConfPath, f)
		}
	}
	b.zones = b.dns && !cfg.DNS.SkipZoneSplit
	switch {
	case b.zones && !host.ConntrackZones:
		b.zones = false
		b.warn("conntrack zone splitting is disabled for %v: this kernel or iptables cannot set zones; "+
			"an application and kuma-dp that use the same port to the same DNS server disturb each other", f)
	case b.zones && b.docker && cfg.DNS.CaptureAll:
		b.zones = false
		b.warn("conntrack zone splitting is unsupported when capturing all DNS traffic inside Docker containers with custom networks")
	}
	return b
}

func (b *builder) warn(format string, a ...any) {
	b.warnings = append(b.warnings, fmt.Sprintf(format, a...))
}

func (b *builder) tables() []Table {
	var out []Table
	add := func(name string, chains ...Chain) {
		used := chains[:0]
		for _, c := range chains {
			if len(c.Rules) > 0 {
				used = append(used, c)
			}
		}
		if len(used) > 0 {
			out = append(out, Table{name, used})
		}
	}
	if b.zones {
		add(TableRaw, b.rawPrerouting(), b.rawOutput())
	}
	add(TableNAT, b.prerouting(), b.output(), b.inbound(), b.outbound(), b.inboundRedirect(), b.outboundRedirect())
	if b.cfg.DropInvalid {
		add(TableMangle, b.mangle())
	}
	return out
}

func (b *builder) mangle() Chain {
	c := Chain{Name: ChainPrerouting}
	c.add("invalid", "drop packets in invalid state", Drop{}, InvalidState{})
	return c
}

func (b *builder) inboundRedirect() Chain {
	c := Chain{Name: ChainInboundRedirect, Owned: true}
	port := b.cfg.Inbound.Port
	c.add("envoy", fmt.Sprintf("redirect TCP traffic to envoy (port %d)", port), Redirect{port}, tcp)
	return c
}

func (b *builder) outboundRedirect() Chain {
	c := Chain{Name: ChainOutboundRedirect, Owned: true}
	port := b.cfg.Outbound.Port
	c.add("envoy", fmt.Sprintf("redirect TCP traffic to envoy (port %d)", port), Redirect{port}, tcp)
	return c
}

var (
	tcp = Protocol{Name: "tcp"}
	udp = Protocol{Name: "udp"}
	// loopback is the interface the kernel routes a host's traffic to itself through.
	loopback = OutInterface{"lo"}
)

// toDNS matches the destination port of DNS.
func toDNS() DestinationPort { return DestinationPort{Range: PortRange{dnsPort, dnsPort}} }

// add appends a rule.
func (c *Chain) add(id, comment string, v Verdict, m ...Match) {
	c.Rules = append(c.Rules, Rule{ID: id, Comment: comment, Verdict: v, Match: m})
}

// insert puts a rule behind those inserted so far, before what the chain holds already.
func (c *Chain) insert(id, comment string, v Verdict, m ...Match) {
	n := 1
	for _, r := range c.Rules {
		n = max(n, r.Position+1)
	}
	c.Rules = append(c.Rules, Rule{ID: id, Comment: comment, Verdict: v, Match: m, Position: n})
}

// Check returns an error when the plan could not be applied as it is: a rule id that is used twice within a table, or a
// jump to a chain the plan does not have. A plan of NewPlan never fails.
func (p *Plan) Check() error {
	var errs []error
	for _, f := range p.Families {
		for _, t := range f.Tables {
			owned, ids := map[string]bool{ChainDocker: true}, map[string]bool{}
			for _, c := range t.Chains {
				owned[c.Name] = owned[c.Name] || c.Owned
			}
			for _, c := range t.Chains {
				for _, r := range c.Rules {
					at := fmt.Sprintf("%v %s %s rule %q", f.Family, t.Name, c.Name, r.ID)
					if id := c.Name + "/" + r.ID; ids[id] {
						errs = append(errs, fmt.Errorf("%s: twice", at))
					} else {
						ids[id] = true
					}
					if j, ok := r.Verdict.(Jump); ok && !owned[j.Chain] {
						errs = append(errs, fmt.Errorf("%s: jumps to unknown chain %s", at, j.Chain))
					}
				}
			}
		}
	}
	return errors.Join(errs...)
}
