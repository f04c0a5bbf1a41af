package resource

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Validate applies contract policies.md §2.7 and §2.3.
func (d *Dataplane) Validate(*Meta) []Violation {
	var f Faults
	p := Path("networking")
	n := d.Networking
	if n == nil || len(n.Inbound) == 0 && n.Gateway == nil {
		f.Add(p, "has to contain at least one inbound interface or gateway")
	}
	if n == nil {
		return f
	}
	n.validateAddresses(&f, p)
	if n.Gateway != nil {
		n.validateGateway(&f, p, d.Probes != nil)
	}
	for i, in := range n.Inbound {
		in.validate(&f, p.Field("inbound").Index(i), n.Address)
	}
	for i, out := range n.Outbound {
		out.validate(&f, p.Field("outbound").Index(i))
	}
	if t := n.TransparentProxying; t != nil {
		t.validate(&f)
	}
	n.validateAdmin(&f, p.Field("admin").Field("port"))
	if d.Probes != nil {
		d.Probes.validate(&f, "probes")
	}
	return f
}

const badAddress = "address has to be valid IP address or domain name"

func (n *Networking) validateAddresses(f *Faults, p Path) {
	switch {
	case n.Address == "":
		f.Add(p.Field("address"), "address can't be empty")
	case isUnspecified(n.Address):
		f.Add(p.Field("address"), "must not be 0.0.0.0 or ::")
	case !isHost(n.Address):
		f.Add(p.Field("address"), badAddress)
	}
	switch {
	case n.AdvertisedAddress == "":
	case isUnspecified(n.AdvertisedAddress):
		f.Add(p.Field("advertisedAddress"), "must not be 0.0.0.0 or ::")
	case !isHost(n.AdvertisedAddress):
		f.Add(p.Field("advertisedAddress"), badAddress)
	}
}

func (n *Networking) validateGateway(f *Faults, p Path, probes bool) {
	g := n.Gateway
	tags := p.Field("gateway").Field("tags")
	f.OneOf(p.Field("gateway").Field("type"), g.Type, GatewayDelegated, GatewayBuiltin)
	if g.Type == GatewayBuiltin {
		if len(n.Inbound) > 0 {
			f.Add(p.Field("inbound"), "inbound cannot be defined for builtin gateways")
		}
		if len(n.Outbound) > 0 {
			f.Add(p.Field("outbound"), "outbound cannot be defined for builtin gateways")
		}
		if probes {
			f.Add("probes", "probes cannot be defined for builtin gateways")
		}
	} else if len(n.Inbound) > 0 {
		f.Add(p.Field("inbound"), "inbound cannot be defined for delegated gateways")
	}
	requireService(f, tags, g.Tags)
	validateTags(f, tags, g.Tags, isTagValue)
}

func (in *Inbound) validate(f *Faults, p Path, address string) {
	f.port(p.Field("port"), in.Port)
	if in.ServicePort != 0 {
		f.port(p.Field("servicePort"), in.ServicePort)
	}
	if in.Address != "" {
		address = in.Address
		if _, err := netip.ParseAddr(in.Address); err != nil {
			f.Add(p.Field("address"), "address has to be valid IP address")
		}
	}
	if in.ServiceAddress != "" {
		if _, err := netip.ParseAddr(in.ServiceAddress); err != nil {
			f.Add(p.Field("serviceAddress"), "serviceAddress has to be valid IP address")
		}
		port := in.ServicePort
		if port == 0 {
			port = in.Port
		}
		if in.ServiceAddress == address && port == in.Port {
			f.Add(p.Field("serviceAddress"), "serviceAddress and servicePort has to differ from address and port")
		}
	}
	f.OneOf(p.Field("state"), in.State, InboundReady, InboundNotReady, InboundIgnored)
	if probe := in.ServiceProbe; probe != nil {
		p := p.Field("serviceProbe")
		validateTimeout(f, p.Field("interval"), probe.Interval)
		validateTimeout(f, p.Field("timeout"), probe.Timeout)
		f.Count(p.Field("unhealthyThreshold"), probe.UnhealthyThreshold)
		f.Count(p.Field("healthyThreshold"), probe.HealthyThreshold)
	}
	requireService(f, p.Field("tags"), in.Tags)
	validateTags(f, p.Field("tags"), in.Tags, isTagValue)
	validateProtocol(f, p.Field("tags").Key(TagProtocol), in.Tags[TagProtocol])
}

const badRefKind = "invalid value. Available values are: MeshExternalService,MeshMultiZoneService,MeshService"

func isRefKind(k Kind) bool {
	return k == KindMeshService || k == KindMeshExternalService || k == KindMeshMultiZoneService
}

func (o *Outbound) validate(f *Faults, p Path) {
	f.port(p.Field("port"), o.Port)
	if _, err := netip.ParseAddr(o.Address); o.Address != "" && err != nil {
		f.Add(p.Field("address"), "address has to be valid IP address")
	}
	ref := o.BackendRef
	if ref == nil {
		if o.Tags[TagService] == "" {
			f.Add(p.Field("tags"), `mandatory tag "kuma.io/service" is missing`)
		}
		validateTags(f, p.Field("tags"), o.Tags, isTagValue)
		return
	}
	if len(o.Tags) > 0 {
		f.Add(p, "both backendRef and tags/service cannot be defined")
	}
	p = p.Field("backendRef")
	if !isRefKind(ref.Kind) {
		f.Add(p.Field("kind"), badRefKind)
	}
	if (ref.Name == "") == (len(ref.Labels) == 0) {
		f.Add(p, "either 'name' or 'labels' should be specified")
	}
	f.port(p.Field("port"), ref.Port)
}

func (t *TransparentProxying) validate(f *Faults) {
	p := Path("networking").Field("transparentProxying")
	if t.RedirectPortInbound > 65535 {
		f.port(p.Field("redirectPortInbound"), t.RedirectPortInbound)
	}
	if t.RedirectPortOutbound > 65535 {
		f.port(p.Field("redirectPortOutbound"), t.RedirectPortOutbound)
	}
	f.OneOf(p.Field("ipFamilyMode"), t.IPFamilyMode, "UnSpecified", "DualStack", "IPv4", "IPv6")
	if t.ReachableBackends == nil {
		return
	}
	for i, ref := range t.ReachableBackends.Refs {
		// The misspelling is Kuma's (contract policies.md §2.3).
		p := Path("networking.transparentProxing.reachableBackends.refs").Index(i)
		if !isRefKind(ref.Kind) {
			f.Add(p.Field("kind"), badRefKind)
		}
		switch {
		case ref.Name == "" && ref.Namespace != "":
			f.Add(p.Field("name"), "name is required, when namespace is defined")
		case ref.Name == "" && len(ref.Labels) == 0:
			f.Add(p.Field("name"), "name or labels are required")
		case ref.Name != "" && len(ref.Labels) > 0:
			f.Add(p.Field("labels"), "labels cannot be defined when name is specified")
		}
	}
}

func (n *Networking) validateAdmin(f *Faults, p Path) {
	if n.Admin == nil || n.Admin.Port == 0 {
		return
	}
	port := n.Admin.Port
	f.port(p, port)
	if slices.ContainsFunc(n.Inbound, func(in *Inbound) bool { return in.Port == port }) {
		f.Add(p, "must differ from inbound")
	}
	if slices.ContainsFunc(n.Outbound, func(o *Outbound) bool { return o.Port == port }) {
		f.Add(p, "must differ from outbound")
	}
}

func (pr *Probes) validate(f *Faults, p Path) {
	f.port(p.Field("port"), pr.Port)
	for i, e := range pr.Endpoints {
		p := p.Field("endpoints").Index(i)
		f.port(p.Field("inboundPort"), e.InboundPort)
		if !strings.HasPrefix(e.InboundPath, "/") {
			f.Add(p.Field("inboundPath"), "should be a valid URL Path")
		}
		if !strings.HasPrefix(e.Path, "/") {
			f.Add(p.Field("path"), "should be a valid URL Path")
		}
	}
}

// validateProtocol keeps out words that no proxy knows (contract effects-security.md §1.3). It does not name tls, which
// passes but has no effect that anybody wants; an absent protocol is tcp.
func validateProtocol(f *Faults, p Path, protocol string) {
	switch protocol {
	case "", "tcp", "http", "http2", "grpc", "kafka", "tls":
	default:
		f.Add(p, fmt.Sprintf("tag %q has an invalid value %q. Allowed values: grpc, http, http2, kafka, tcp", TagProtocol, protocol))
	}
}

func requireService(f *Faults, p Path, tags map[string]string) {
	if _, ok := tags[TagService]; !ok {
		f.Add(p.Key(TagService), "tag has to exist")
	}
}

// validateTags applies the syntax of tags (contract policies.md §2.7), with values being isTagValue or a wider rule.
func validateTags(f *Faults, p Path, tags map[string]string, values func(string) bool) {
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		value := tags[key]
		if !isTag(key, "/") {
			f.Add(p.Key(key), "tag name must consist of alphanumeric characters, dots, dashes, slashes and underscores")
		}
		switch {
		case value == "":
			f.Add(p.Key(key), "tag value must be non-empty")
		case !values(value):
			f.Add(p.Key(key), "tag value must consist of alphanumeric characters, dots, dashes and underscores")
		}
	}
}

func isTagValue(s string) bool { return isTag(s, "") }

// isTagPattern admits "*", which stands for every value.
func isTagPattern(s string) bool { return s == "*" || isTag(s, "") }

// isListenerTag admits the values that listeners of gateways customarily have, such as "http/8080".
func isListenerTag(s string) bool { return s == "*" || isTag(s, "/") }

func isTag(s, also string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) && !strings.ContainsRune(".-_:"+also, rune(s[i])) {
			return false
		}
	}
	return true
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

func isUnspecified(s string) bool {
	addr, err := netip.ParseAddr(s)
	return err == nil && addr.IsUnspecified()
}

// isHost accepts an IP address or a domain name. The last label of a name is not a number, so that a mistyped IPv4
// address is not taken for a name.
func isHost(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	s = strings.ToLower(s)
	last := s[strings.LastIndexByte(s, '.')+1:]
	return len(s) <= maxNameLength && isSubdomain(s) && strings.Trim(last, "0123456789") != ""
}
