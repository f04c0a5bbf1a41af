// Package transparentproxy turns a configuration and the facts of a host into a plan of packet-filter rules that redirects
// the host's traffic to Envoy. The plan is a value: it can be printed, compared, applied, checked against the kernel and
// undone. Nothing here changes the host; backends do (see the packages nftables and iptables).
//
// Names, ports and the order of rules are those of Kuma 2.9 (contract transparentproxy.md §1 and §2), so that each side's
// tools can remove what the other installed.
package transparentproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

const (
	// DefaultInboundPort is where Envoy takes redirected inbound connections.
	DefaultInboundPort = 15006
	// DefaultOutboundPort is where Envoy takes redirected outbound connections.
	DefaultOutboundPort = 15001
	// DefaultDNSPort is where the agent answers redirected DNS queries.
	DefaultDNSPort = 15053
	// DefaultUID says who runs the agent and Envoy when the configuration does not.
	DefaultUID = 5678
	// DefaultUser says so when the host has no user DefaultUID.
	DefaultUser = "kuma-dp"
	// DefaultResolvConfPath lists the DNS servers whose queries are redirected.
	DefaultResolvConfPath = "/etc/resolv.conf"
	// DefaultLogLevel is syslog's debug.
	DefaultLogLevel = 7
)

// FamilyMode says which address families are redirected. Kuma has no mode for IPv6 alone.
type FamilyMode string

// The two modes of contract transparentproxy.md §1.
const (
	DualStack FamilyMode = "dualstack"
	IPv4Only  FamilyMode = "ipv4"
)

// ParseFamilyMode reads the value of --ip-family-mode. Empty means dual stack.
func ParseFamilyMode(s string) (FamilyMode, error) {
	switch m := FamilyMode(s); m {
	case "":
		return DualStack, nil
	case DualStack, IPv4Only:
		return m, nil
	default:
		return "", fmt.Errorf("ip family mode %q must be one of 'dualstack' or 'ipv4'", s)
	}
}

// Config says what to redirect. Start from DefaultConfig; the zero value is not valid.
type Config struct {
	// User is the name or number of the user whose traffic is never redirected. Empty: uid 5678, else the user kuma-dp.
	User string
	// UIDOnly takes User for a uid, DefaultUID when it is empty, without looking it up: the users of this file system need not
	// be those of the network namespace, as in a CNI plugin. Default off.
	UIDOnly bool
	// IPFamilyMode is DualStack by default.
	IPFamilyMode FamilyMode

	Inbound  Inbound
	Outbound Outbound
	DNS      DNS

	// VNets are networks of containers or virtual machines behind this host, redirected as they enter it. Default none.
	VNets []VNet
	// DropInvalid drops packets that connection tracking calls invalid, before they can reset connections. Default off.
	DropInvalid bool
	// Log makes the kernel log the first packet of each connection at LogLevel (0 to 7). Default off, level 7.
	Log      bool
	LogLevel uint8
}

// Inbound is redirection of connections that come to this host.
type Inbound struct {
	// Enabled is true by default; gateways switch it off.
	Enabled bool
	// Port is DefaultInboundPort by default.
	Port uint16
	// IncludePorts, if not empty, are the only ports redirected; ExcludePorts must then name none of them. Default none.
	IncludePorts, ExcludePorts Ports
	// ExcludeIPs are sources whose connections are not redirected. Default none.
	ExcludeIPs []netip.Prefix
	// Insert puts the redirection before foreign rules instead of behind them. Default off.
	Insert bool
}

// Outbound is redirection of connections that this host makes.
type Outbound struct {
	// Enabled is true by default.
	Enabled bool
	// Port is DefaultOutboundPort by default.
	Port uint16
	// IncludePorts, if not empty, are the only ports redirected; ExcludePorts must then name none of them. Default none.
	IncludePorts, ExcludePorts Ports
	// ExcludeIPs are destinations to which connections are not redirected. Default none.
	ExcludeIPs []netip.Prefix
	// ExcludeUIDs are users whose traffic is not redirected. Default none.
	ExcludeUIDs []UIDExclusion
	// Insert puts the redirection before foreign rules instead of behind them. Default off.
	Insert bool
}

// DNS is redirection of DNS queries to the agent.
type DNS struct {
	// Enabled redirects queries to the servers of ResolvConfPath. Default off.
	Enabled bool
	// CaptureAll redirects every query to port 53; it implies Enabled. Default off.
	CaptureAll bool
	// Port is DefaultDNSPort by default.
	Port uint16
	// SkipZoneSplit leaves out the conntrack zones that keep the application's and the agent's queries apart. Default off.
	SkipZoneSplit bool
	// ResolvConfPath is DefaultResolvConfPath by default.
	ResolvConfPath string
}

// On reports whether DNS is redirected at all.
func (d DNS) On() bool { return d.Enabled || d.CaptureAll }

// DefaultConfig returns the defaults of contract transparentproxy.md §1.
func DefaultConfig() Config {
	return Config{
		IPFamilyMode: DualStack,
		Inbound:      Inbound{Enabled: true, Port: DefaultInboundPort},
		Outbound:     Outbound{Enabled: true, Port: DefaultOutboundPort},
		DNS:          DNS{Port: DefaultDNSPort, ResolvConfPath: DefaultResolvConfPath},
		LogLevel:     DefaultLogLevel,
	}
}

// Validate returns everything that is wrong with the configuration, joined. It reads nothing from the host.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c.IPFamilyMode != DualStack && c.IPFamilyMode != IPv4Only {
		bad("ipFamilyMode: %q must be one of 'dualstack' or 'ipv4'", string(c.IPFamilyMode))
	}
	for _, p := range []struct {
		path string
		port uint16
	}{
		{"redirect.inbound.port", c.Inbound.Port},
		{"redirect.outbound.port", c.Outbound.Port},
		{"redirect.dns.port", c.DNS.Port},
	} {
		if p.port == 0 {
			bad("%s: %w", p.path, invalidPort("0"))
		}
	}
	if c.Inbound.Port == c.Outbound.Port {
		bad("redirect.inbound.port and redirect.outbound.port are both %d; Envoy needs two different ports", c.Inbound.Port)
	}
	for _, l := range []struct {
		path  string
		ports Ports
	}{
		{"redirect.inbound.includePorts", c.Inbound.IncludePorts},
		{"redirect.inbound.excludePorts", c.Inbound.ExcludePorts},
		{"redirect.outbound.includePorts", c.Outbound.IncludePorts},
		{"redirect.outbound.excludePorts", c.Outbound.ExcludePorts},
	} {
		if err := l.ports.validate(); err != nil {
			bad("%s: %w", l.path, err)
		}
	}
	for _, l := range []struct {
		path             string
		include, exclude Ports
	}{
		{"redirect.inbound", c.Inbound.IncludePorts, c.Inbound.ExcludePorts},
		{"redirect.outbound", c.Outbound.IncludePorts, c.Outbound.ExcludePorts},
	} {
		if r, both := l.include.overlap(l.exclude); both {
			bad("%s: port %s is in includePorts and in excludePorts; take it out of one of them", l.path, r.words())
		}
	}
	for i, e := range c.Outbound.ExcludeUIDs {
		if err := e.validate(); err != nil {
			bad("redirect.outbound.excludePortsForUIDs[%d]: %w", i, err)
		}
	}
	for _, l := range []struct {
		path string
		ips  []netip.Prefix
	}{
		{"redirect.inbound.excludePortsForIPs", c.Inbound.ExcludeIPs},
		{"redirect.outbound.excludePortsForIPs", c.Outbound.ExcludeIPs},
	} {
		for i, p := range l.ips {
			if !p.IsValid() {
				bad("%s[%d]: not an address range", l.path, i)
			}
		}
	}
	for i, v := range c.VNets {
		if err := v.validate(); err != nil {
			bad("redirect.vnet.networks[%d]: %w", i, err)
		}
	}
	if c.DNS.ResolvConfPath == "" || strings.ContainsRune(c.DNS.ResolvConfPath, 0) {
		bad("redirect.dns.resolvConfigPath: must name a file")
	}
	if c.LogLevel > 7 {
		bad("log.level: %d must be from 0 to 7", c.LogLevel)
	}
	return errors.Join(errs...)
}
