// Package effect holds the Envoy resources of one proxy while they are made, as typed values that policies change before
// everything is packed into bytes (contract controlplane.md §3, effects-routing.md, effects-security.md). A policy kind
// implements `Apply(p *effect.Proxy, r *policy.Rules) error` on it; controlplane/xds makes the base and packs the result.
//
// The inbounds, outbounds and backends of a Proxy are independent of each other: the caller may hand in only some of
// those that a proxy has, because the others were made before with equal inputs. An effect must therefore decide about
// each part from that part and its rules alone. What else it lets flow into clusters, ClusterKey must tell.
package effect

import (
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Kind is the effect of one policy kind.
type Kind struct {
	Kind resource.Kind
	// Apply changes p in place. Rules are never nil; they are empty when no policy of the kind is effective.
	Apply func(p *Proxy, r *policy.Rules) error
}

// Protocols of a port (contract policies.md §2.1).
const (
	TCP   = "tcp"
	HTTP  = "http"
	HTTP2 = "http2"
	GRPC  = "grpc"
	Kafka = "kafka"
)

// IsHTTP tells whether traffic of the protocol passes an HTTP connection manager.
func IsHTTP(protocol string) bool {
	return protocol == HTTP || protocol == HTTP2 || protocol == GRPC
}

// Proxy is one sidecar or delegated gateway. It belongs to one goroutine.
type Proxy struct {
	Env
	Inbounds  []*Inbound
	Outbounds []*Outbound
	Backends  []*Backend
}

// Env is what the base of a proxy's resources depends on besides the single inbound or outbound.
type Env struct {
	// Mesh is the name of the mesh.
	Mesh string
	// MTLSMode is the mode of the mesh's enabled backend, resource.MTLSStrict or MTLSPermissive; empty without mTLS.
	MTLSMode string
	// Address is networking.address.
	Address string
	// Transparent is true when both redirect ports are set: listeners do not bind then.
	Transparent bool
	// IPv6 says that the host has IPv6, as the proxy's metadata told.
	IPv6 bool
	// Zone is the zone of the control plane, added to tags as kuma.io/zone.
	Zone string
	// SourceTags is the value of the header x-kuma-tags on outgoing requests.
	SourceTags string
}

// NewEnv derives the environment of a proxy from its Dataplane.
func NewEnv(mesh *resource.Resource, dp *resource.Dataplane, zone string, ipv6 bool) Env {
	env := Env{Mesh: mesh.Name, Zone: zone, IPv6: ipv6, SourceTags: SourceTags(dp, zone)}
	if b := resource.SpecOf[*resource.Mesh](mesh).EnabledBackend(); b != nil {
		env.MTLSMode = resource.MTLSStrict
		if b.Mode == resource.MTLSPermissive {
			env.MTLSMode = resource.MTLSPermissive
		}
	}
	if n := dp.Networking; n != nil {
		env.Address = n.Address
		if tp := n.TransparentProxying; tp != nil {
			env.Transparent = tp.RedirectPortInbound != 0 && tp.RedirectPortOutbound != 0
		}
	}
	return env
}

// WithZone returns tags with kuma.io/zone added; tags itself when it has one or zone is empty.
func WithZone(tags map[string]string, zone string) map[string]string {
	if zone == "" || tags[resource.TagZone] != "" {
		return tags
	}
	out := make(map[string]string, len(tags)+1)
	for k, v := range tags {
		out[k] = v
	}
	out[resource.TagZone] = zone
	return out
}

// SourceTags renders the tags of all inbounds, or of the gateway, as the header x-kuma-tags carries them: keys sorted,
// values of one key sorted and joined with commas, each pair between ampersands (contract effects-routing.md §2.2).
func SourceTags(dp *resource.Dataplane, zone string) string {
	if dp.Networking == nil {
		return ""
	}
	values := map[string][]string{}
	add := func(tags map[string]string) {
		for k, v := range WithZone(tags, zone) {
			if !slices.Contains(values[k], v) {
				values[k] = append(values[k], v)
			}
		}
	}
	if g := dp.Networking.Gateway; g != nil {
		add(g.Tags)
	}
	for _, in := range dp.Networking.Inbound {
		add(in.Tags)
	}
	keys := make([]string, 0, len(values))
	for k := range values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	for _, k := range keys {
		slices.Sort(values[k])
		b.WriteString("&" + k + "=" + strings.Join(values[k], ",") + "&")
	}
	return b.String()
}

// StatName replaces every character outside [a-zA-Z0-9_-] by an underscore (contract effects-security.md §0.7).
func StatName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-':
			return r
		}
		return '_'
	}, name)
}

// HostPort joins as Kuma's resource names do: IPv6 addresses in brackets.
func HostPort(address string, port uint32) string {
	return net.JoinHostPort(address, strconv.FormatUint(uint64(port), 10))
}

// Section is the name of a service's port in rules: its name, or the decimal number.
func Section(p resource.ServicePort) string {
	if p.Name != "" {
		return p.Name
	}
	return strconv.FormatUint(uint64(p.Port), 10)
}

func isIPv6(address string) bool {
	ip, err := netip.ParseAddr(address)
	return err == nil && ip.Is6() && !ip.Is4In6()
}

// Effective tells whether any policy of the kind says anything about the proxy.
func Effective(r *policy.Rules) bool {
	return r != nil && (len(r.From) > 0 || len(r.To) > 0 || len(r.ToResources) > 0 || r.Single != nil)
}
