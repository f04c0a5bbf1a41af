// Package effect holds the Envoy resources of one proxy while they are made, as typed values that policies change before
// everything is packed into bytes (contract controlplane.md §3, effects-routing.md, effects-security.md). A policy kind
// implements `Apply(p *effect.Proxy, r *policy.Rules) error` on it; controlplane/xds makes the base and packs the result.
//
// The inbounds, outbounds and backends of a Proxy are independent of each other: the caller may hand in only some of
// those that a proxy has, because the others were made before with equal inputs. An effect must therefore decide about
// each part from that part and its rules alone; those of an inbound are found by its own port and by that of its workload.
// What else it lets flow into clusters, ClusterKey must tell. What it adds to a proxy or warns of must not depend on the
// inbounds, outbounds and backends that it is handed.
package effect

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"

	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Kind is the effect of one policy kind. Rules are never nil; they are empty when no policy of the kind is effective.
type Kind struct {
	Kind resource.Kind
	// Apply changes p in place; nil for a kind of routes, or one that only patches.
	Apply func(p *Proxy, r *policy.Rules) error
	// Route says where the outbound leads that leads to own without policies; earlier is what the kinds of routes before this
	// one said. Nil is to where it leads without policies. It is called before any Apply, and must depend on nothing but its
	// arguments.
	Route func(own *Target, r *policy.Rules, earlier *Routing, resolve Resolver) *Routing
	// Key tells what else than the rules of a part itself flows into the parts of a proxy: something of the environment, or
	// of a rule for the whole proxy. Parts are shared between proxies with equal keys. Nil for nothing. It is called only when
	// the rules are Effective.
	Key func(env Env, r *policy.Rules) string
	// Reach says into which parts it flows.
	Reach Reach
	// ListenersOnly says that what Key tells flows into no cluster, so that proxies with other keys may share theirs.
	ListenersOnly bool
	// Endpoints tells how the client that the proxy is sees the endpoints of a backend, which has no Cluster here: a function
	// that rearranges them, and a key that is equal only where the function does the same. Nil, or an empty key, for as they
	// are.
	Endpoints func(env Env, b *Backend, r *policy.Rules) (key string, arrange func(*endpointv3.ClusterLoadAssignment))
	// Passthrough asks for Proxy.Passthrough and Proxy.Direct.
	Passthrough bool
	// Whole tells whether Apply must see all parts of the proxy at once, because it counts or orders them. Nil for never.
	Whole func(r *policy.Rules) bool
	// Patch makes what changes the finished resources of a proxy, after every Apply. It is called only when the rules are
	// Effective. Nil for nothing; at most one kind has it.
	Patch func(r *policy.Rules) Patcher
}

// Reach is a set of parts.
type Reach int

const (
	// Named are the parts of which the rules of the kind say something.
	Named Reach = iota
	// ByTags are all inbounds and all outbounds by tags, with what these lead to.
	ByTags
	// Everything is all parts.
	Everything
)

// Patcher changes finished parts of a proxy, each by itself. It is safe for concurrent use.
type Patcher interface {
	// Concerns tells whether Patch may do something to a listener, or else cluster, that comes under a name from an origin.
	Concerns(origin Origin, listener bool, name string) bool
	// Patch returns what becomes of each of the parts, without a message what is removed, and after these what it adds. When
	// it warns of anything, parts by themselves do not tell: what fails at one is left out at all, so that all that it
	// concerns must be there. The warnings are shown with the rules of the kind.
	Patch(parts []Part) (patched []Part, warnings []string)
}

// Part is a finished listener or cluster and which room it comes from.
type Part struct {
	Origin Origin
	// Message is a *listenerv3.Listener or a *clusterv3.Cluster, nil for one that has been removed.
	Message proto.Message
}

// Origin says where a resource comes from; a MeshProxyPatch can ask for it (contract effects-security.md §10).
type Origin string

// Origins of listeners and clusters.
const (
	OriginAdmin         Origin = "admin"
	OriginPrometheus    Origin = "prometheus"
	OriginTransparent   Origin = "transparent"
	OriginInbound       Origin = "inbound"
	OriginOutbound      Origin = "outbound"
	OriginDirectAccess  Origin = "direct-access"
	OriginProbe         Origin = "probe"
	OriginDNS           Origin = "dns"
	OriginDynamicConfig Origin = "dynamic-config"
	OriginOpenTelemetry Origin = "open-telemetry"
	OriginAccessLog     Origin = "meshaccesslog"
	OriginTracing       Origin = "tracing"
	OriginTrace         Origin = "mesh-trace"
	OriginPassthrough   Origin = "meshpassthrough"
	OriginProxyPatch    Origin = "mesh-proxy-patch"
)

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
	// Passthrough is what catches outgoing connections that no outbound takes, IPv4 before IPv6; empty without redirection.
	// Direct are the listeners for instances by their own addresses, sorted by address and port. Both are handed in when a
	// kind that asks for them is effective.
	Passthrough []*Passthrough
	Direct      []*Listener

	added    []added
	pages    []Page
	warnings []string
}

// Warn says which part of a policy has no effect on the proxy and why, for policies that each are valid but contradict
// each other. What is in effect already must not be touched.
func (p *Proxy) Warn(format string, args ...any) {
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

// Warnings are all of Warn, in their order.
func (p *Proxy) Warnings() []string { return p.warnings }

// added is a listener or a cluster that a policy adds.
type added struct {
	origin   Origin
	listener *Listener
	cluster  *Cluster
}

// AddListener adds a listener of the proxy itself; of several with one name the last wins.
func (p *Proxy) AddListener(origin Origin, l *Listener) {
	p.added = append(p.added, added{origin: origin, listener: l})
}

// AddCluster adds a cluster of the proxy itself; of several with one name the last wins.
func (p *Proxy) AddCluster(origin Origin, c *Cluster) {
	p.added = append(p.added, added{origin: origin, cluster: c})
}

// AddPage adds a document that the agent asks for by name, when Env.Paged.
func (p *Proxy) AddPage(page Page) { p.pages = append(p.pages, page) }

// Pages are all of AddPage, in their order.
func (p *Proxy) Pages() []Page { return p.pages }

// BuildAdded finishes what policies added, in their order.
func (p *Proxy) BuildAdded() ([]Part, error) {
	var out []Part
	for _, a := range p.added {
		if a.listener != nil {
			l, err := a.listener.Build()
			if err != nil {
				return nil, err
			}
			out = append(out, Part{a.origin, l})
			continue
		}
		c, err := a.cluster.Build()
		if err != nil {
			return nil, err
		}
		out = append(out, Part{a.origin, c})
	}
	return out, nil
}

// Clear forgets what was added and warned of.
func (p *Proxy) Clear() { p.added, p.pages, p.warnings = nil, nil, nil }

// Page is a document for the agent of the proxy, which asks for it at /<name>. All of them are on one listener.
type Page struct {
	Name string
	Body []byte
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
	// Shown says that the proxy is only shown, as Kuma shows it; what runs is what was meant, where Envoy would refuse that.
	Shown bool
	// Guarded says that the proxy is one of ours: ways around its strict inbounds are closed, and a change of their mode ends no
	// connection. One of Kuma gets exactly what its own control plane would send.
	Guarded bool
	// IPv6 says that the host has IPv6, as the proxy's metadata told.
	IPv6 bool
	// Zone is the zone of the control plane, added to tags as kuma.io/zone.
	Zone string
	// ThroughEgress says that what is reached by tags in another zone is reached through a ZoneEgress.
	ThroughEgress bool
	// SourceTags is the value of the header x-kuma-tags on outgoing requests.
	SourceTags string
	// Dataplane is the name of the proxy, Tags all values of each tag of its inbounds and gateway, sorted, with kuma.io/zone.
	Dataplane string
	Tags      map[string][]string
	// WorkDir is where the agent has its sockets, MetricsCert and MetricsKey are the files of its certificate for metrics.
	// They are empty for a proxy that is not connected.
	WorkDir, MetricsCert, MetricsKey string
	// Paged says that the agent asks for what it should do page by page, as those of Kuma 2.10 and later: what tells it
	// something is a Page, not a listener of its own.
	Paged bool
}

// Service is the name that the proxy goes by: the first of its values of kuma.io/service, or "unknown" (contract
// effects-security.md §5).
func (e Env) Service() string {
	if s := e.Tags[resource.TagService]; len(s) > 0 {
		return s[0]
	}
	return "unknown"
}

// Socket is the path of a unix socket of the agent that bears the name of the proxy.
func (e Env) Socket(kind string) string { return e.SocketPath(kind + "-" + e.Dataplane + "-" + e.Mesh) }

// SocketPath is the path of a unix socket in the folder of the agent, cut to what a socket's address holds (contract
// agent.md §4.1).
func (e Env) SocketPath(name string) string {
	path := name
	if e.WorkDir != "" {
		path = e.WorkDir + "/" + path
	}
	if len(path) > 98 {
		path = path[:98]
	}
	return path + ".sock"
}

// NewEnv derives the environment of a proxy from its Dataplane. What a connected proxy tells about itself is the caller's to
// fill in.
func NewEnv(mesh, dp *resource.Resource, zone string) Env {
	spec := resource.SpecOf[*resource.Dataplane](dp)
	env := Env{Mesh: mesh.Name, Zone: zone, Dataplane: dp.Name, Tags: tagsOf(spec, zone)}
	env.SourceTags = sourceTags(env.Tags)
	if b := resource.SpecOf[*resource.Mesh](mesh).EnabledBackend(); b != nil {
		env.MTLSMode = resource.MTLSStrict
		if b.Mode == resource.MTLSPermissive {
			env.MTLSMode = resource.MTLSPermissive
		}
		r := resource.SpecOf[*resource.Mesh](mesh).Routing
		env.ThroughEgress = r != nil && r.ZoneEgress
	}
	if n := spec.Networking; n != nil {
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

// tagsOf are all values of each tag of the inbounds, or of the gateway, sorted.
func tagsOf(dp *resource.Dataplane, zone string) map[string][]string {
	values := map[string][]string{}
	if dp.Networking == nil {
		return values
	}
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
	for _, v := range values {
		slices.Sort(v)
	}
	return values
}

// sourceTags renders tags as the header x-kuma-tags carries them: keys sorted, values of one key joined with commas, each
// pair between ampersands (contract effects-routing.md §2.2).
func sourceTags(values map[string][]string) string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(values)) {
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
	return r != nil && (len(r.From) > 0 || r.Tagged || len(r.To) > 0 || len(r.ToResources) > 0 || r.Single != nil)
}
