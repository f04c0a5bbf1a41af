package transparentproxy

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// PortRange is an inclusive range of ports; a single port has First equal to Last.
type PortRange struct{ First, Last uint16 }

// String writes the range as iptables does: 80 or 80:90.
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d:%d", r.First, r.Last)
}

// words writes the range as people do: 80 or 80-90.
func (r PortRange) words() string { return strings.Replace(r.String(), ":", "-", 1) }

// Contains reports whether the port is in the range.
func (r PortRange) Contains(port uint16) bool { return r.First <= port && port <= r.Last }

// Ports is a list of port ranges, in the order written.
type Ports []PortRange

// String writes the list as iptables does: 22,3000:5000.
func (p Ports) String() string {
	list := make([]string, len(p))
	for i, r := range p {
		list[i] = r.String()
	}
	return strings.Join(list, ",")
}

// allPorts is what `*` and an absent port list mean in an exclusion by uid.
var allPorts = PortRange{1, 65535}

// ParsePorts reads a comma-separated list of ports and, beyond Kuma 2.9, ranges a-b. An empty string is an empty list.
func ParsePorts(s string) (Ports, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var ports Ports
	for part := range strings.SplitSeq(s, ",") {
		r, err := parsePortRange(strings.TrimSpace(part))
		if err != nil {
			return nil, err
		}
		ports = append(ports, r)
	}
	return ports, nil
}

func parsePortRange(s string) (PortRange, error) {
	a, b, isRange := strings.Cut(s, "-")
	first, err := parsePort(a)
	if err != nil || !isRange {
		return PortRange{first, first}, err
	}
	last, err := parsePort(b)
	if err != nil {
		return PortRange{}, err
	}
	if last < first {
		return PortRange{}, fmt.Errorf("port range '%s' ends before it begins", s)
	}
	return PortRange{first, last}, nil
}

func parsePort(s string) (uint16, error) {
	n, err := parseNumber(s, 16)
	if err != nil || n == 0 {
		return 0, invalidPort(s)
	}
	return uint16(n), nil
}

// parseNumber takes digits only: strconv alone would let a sign or an underscore through in some forms.
func parseNumber(s string, bits int) (uint64, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(s, 10, bits)
}

// invalidPort is Kuma's text (contract transparentproxy.md §1.1).
func invalidPort(s string) error {
	return fmt.Errorf("value '%s' is not a valid port (uint16 in the range [1, 65535])", s)
}

func (p Ports) validate() error {
	for _, r := range p {
		if r.First == 0 || r.Last < r.First {
			return fmt.Errorf("port range %v is not valid", r)
		}
	}
	return nil
}

// UIDRange is an inclusive range of users; a single user has First equal to Last. Uids have 32 bits.
type UIDRange struct{ First, Last uint32 }

// words writes the range as people do: 1000 or 106-108.
func (r UIDRange) words() string {
	if r.First == r.Last {
		return strconv.FormatUint(uint64(r.First), 10)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// UIDExclusion leaves the traffic of users alone, to Ports (never empty) over TCP, UDP or both.
type UIDExclusion struct {
	TCP, UDP bool
	Ports    Ports
	UIDs     UIDRange
}

// ParseUIDExclusion reads `[protocols:[ports:]]uids` (contract transparentproxy.md §1.2): one part is uids, two are
// ports:uids, three are protocols:ports:uids.
func ParseUIDExclusion(s string) (UIDExclusion, error) {
	parts := strings.Split(s, ":")
	if len(parts) > 3 {
		return UIDExclusion{}, fmt.Errorf("invalid exclusion '%s': expected [protocols:[ports:]]uids", s)
	}
	e := UIDExclusion{TCP: true, UDP: true, Ports: Ports{allPorts}}
	var err error
	if e.UIDs, err = parseUIDs(strings.TrimSpace(parts[len(parts)-1])); err != nil {
		return UIDExclusion{}, err
	}
	if len(parts) > 1 {
		if list := strings.TrimSpace(parts[len(parts)-2]); list != "" && list != "*" {
			if e.Ports, err = ParsePorts(list); err != nil {
				return UIDExclusion{}, err
			}
		}
	}
	if len(parts) == 3 {
		if list := strings.TrimSpace(parts[0]); list != "" && list != "*" {
			e.TCP, e.UDP = false, false
			for p := range strings.SplitSeq(list, ",") {
				switch strings.ToLower(strings.TrimSpace(p)) {
				case "tcp":
					e.TCP = true
				case "udp":
					e.UDP = true
				default:
					return UIDExclusion{}, fmt.Errorf("invalid protocol '%s' in exclusion '%s': expected tcp, udp or *", p, s)
				}
			}
		}
	}
	return e, nil
}

// ParseUIDExclusions reads exclusions separated by semicolons; beyond Kuma 2.9 each may name a list of users. Where that does not
// fit, commas may separate exclusions as well, as Kuma's environment variables have them. An empty string is an empty list.
func ParseUIDExclusions(s string) ([]UIDExclusion, error) {
	out, err := parseUIDExclusions(strings.Split(s, ";"))
	if err != nil && !strings.Contains(s, ";") {
		if more, again := parseUIDExclusions(strings.Split(s, ",")); again == nil {
			return more, nil
		}
	}
	return out, err
}

func parseUIDExclusions(entries []string) ([]UIDExclusion, error) {
	var out []UIDExclusion
	for _, entry := range entries {
		if strings.TrimSpace(entry) == "" && len(entries) == 1 {
			return nil, nil
		}
		at := strings.LastIndexByte(entry, ':') + 1
		for uids := range strings.SplitSeq(entry[at:], ",") {
			e, err := ParseUIDExclusion(entry[:at] + uids)
			if err != nil {
				return nil, err
			}
			out = append(out, e)
		}
	}
	return out, nil
}

// maxUID is the highest uid; the one above means "no user" to the kernel.
const maxUID = 1<<32 - 2

func parseUIDs(s string) (UIDRange, error) {
	if strings.Contains(s, ",") {
		return UIDRange{}, fmt.Errorf("invalid UID entry: '%s'. It should either be a single item or a range", s)
	}
	a, b, isRange := strings.Cut(s, "-")
	first, err := parseNumber(a, 32)
	if err != nil || first > maxUID {
		return UIDRange{}, fmt.Errorf("invalid UID '%s': expected a number from 0 to %d or a range of them", s, maxUID)
	}
	last := first
	if isRange {
		if last, err = parseNumber(b, 32); err != nil || last < first || last > maxUID {
			return UIDRange{}, fmt.Errorf("invalid UID range '%s': expected first-last", s)
		}
	}
	return UIDRange{uint32(first), uint32(last)}, nil
}

func (e UIDExclusion) validate() error {
	if !e.TCP && !e.UDP {
		return errors.New("names no protocol")
	}
	if len(e.Ports) == 0 {
		return errors.New("names no port")
	}
	if e.UIDs.Last < e.UIDs.First {
		return fmt.Errorf("uid range %s ends before it begins", e.UIDs.words())
	}
	return e.Ports.validate()
}

// ParseIPs reads a comma-separated list of addresses and ranges of either family. An empty string is an empty list.
func ParseIPs(s string) ([]netip.Prefix, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var out []netip.Prefix
	for part := range strings.SplitSeq(s, ",") {
		p, err := parseIP(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("invalid exclusion rule: invalid IP address: '%s'. Expected format: <ip> or <ip>/<cidr>", part)
		}
		out = append(out, p)
	}
	return out, nil
}

func parseIP(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		if p.Addr().Is4In6() {
			return netip.Prefix{}, errors.New("an IPv4 address written as IPv6")
		}
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, errors.New("not an address")
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// VNet is a network behind this host: what comes in by Interface and does not go to Network is redirected as outbound. An
// interface name ending in + stands for all that begin with it.
type VNet struct {
	Interface string
	Network   netip.Prefix
}

// interfaceName is what the kernel takes, without what iptables-restore would read as something else.
var interfaceName = regexp.MustCompile(`^[A-Za-z0-9_.@-]{0,14}[A-Za-z0-9_.+-]$`)

// ParseVNet reads `interface:network`, split at the first colon.
func ParseVNet(s string) (VNet, error) {
	name, network, ok := strings.Cut(s, ":")
	p, err := parseIP(network)
	v := VNet{name, p}
	if !ok || err != nil || v.validate() != nil {
		return VNet{}, fmt.Errorf("invalid virtual network definition: %s", s)
	}
	return v, nil
}

func (v VNet) validate() error {
	if !interfaceName.MatchString(v.Interface) || v.Interface[0] == '-' {
		return fmt.Errorf("interface name %q is not valid", v.Interface)
	}
	if !v.Network.IsValid() {
		return errors.New("not an address range")
	}
	return nil
}
