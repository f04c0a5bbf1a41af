package xds

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

// FeatureIdentityCSR is announced by agents that keep their own key: they get no identity certificate over ADS.
const FeatureIdentityCSR = "feature-identity-csr"

// FeatureIdentityOwn is announced beside it by agents whose certificates come from elsewhere. That they have one we learn from the
// acknowledgement of the trust bundle.
const FeatureIdentityOwn = "feature-identity-own"

// Meta is what a proxy tells about itself in the metadata of its node (contract controlplane.md §3.1). The zero value
// means that nothing is known, as for the inspection of a proxy that is not connected.
type Meta struct {
	AdminAddress  string
	AdminPort     uint32
	DNSPort       uint32
	ReadinessPort uint32
	Features      []string
	WorkDir       string
	// SystemCAPath is the file of the host's certificate authorities, empty when it has none.
	SystemCAPath string
	// MetricsCert and MetricsKey are the files of the certificate to serve metrics with, empty without one.
	MetricsCert, MetricsKey string
	// IPv6 says that the host has IPv6.
	IPv6          bool
	AppProbeProxy bool
	// ProxyType is dataplane, ingress or egress.
	ProxyType string
	// Resource is the JSON of the Dataplane that the proxy brings along, empty when it has none.
	Resource string
	Version  *resource.ProxyVersion
}

// Has tells whether the proxy announced a feature.
func (m *Meta) Has(feature string) bool { return slices.Contains(m.Features, feature) }

// ParseMeta reads the metadata of a node. Unknown fields are ignored; a field of the wrong shape is an error.
func ParseMeta(node *corev3.Node) (Meta, error) {
	f := node.GetMetadata().GetFields()
	m := Meta{
		AdminAddress: f["dataplane.admin.address"].GetStringValue(),
		WorkDir:      f["workdir"].GetStringValue(),
		ProxyType:    f["dataplane.proxyType"].GetStringValue(),
		Resource:     f["dataplane.resource"].GetStringValue(),
		SystemCAPath: f["systemCaPath"].GetStringValue(),
		MetricsCert:  f["metricsCertPath"].GetStringValue(),
		MetricsKey:   f["metricsKeyPath"].GetStringValue(),
		IPv6:         truth(f["ipv6Enabled"]),
	}
	m.AppProbeProxy = truth(f["dataplane.appProbeProxy.enabled"])
	for key, dst := range map[string]*uint32{
		"dataplane.admin.port": &m.AdminPort, "dataplane.dns.port": &m.DNSPort,
		"dataplane.readinessReporter.port": &m.ReadinessPort,
	} {
		port, err := portOf(f[key])
		if err != nil {
			return Meta{}, fmt.Errorf("read node metadata %s: %w", key, err)
		}
		*dst = port
	}
	for _, v := range f["features"].GetListValue().GetValues() {
		m.Features = append(m.Features, v.GetStringValue())
	}
	m.Version = versionInfo(f)
	return m, nil
}

func truth(v *structpb.Value) bool { return v.GetBoolValue() || v.GetStringValue() == "true" }

func portOf(v *structpb.Value) (uint32, error) {
	switch v := v.GetKind().(type) {
	case nil, *structpb.Value_NullValue:
		return 0, nil
	case *structpb.Value_NumberValue:
		if v.NumberValue < 0 || v.NumberValue > 65535 || v.NumberValue != float64(int(v.NumberValue)) {
			return 0, fmt.Errorf("%v is not a port", v.NumberValue)
		}
		return uint32(v.NumberValue), nil
	case *structpb.Value_StringValue:
		if v.StringValue == "" {
			return 0, nil
		}
		n, err := strconv.ParseUint(v.StringValue, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q is not a port", v.StringValue)
		}
		return uint32(n), nil
	}
	return 0, errors.New("is neither a number nor a string")
}

func versionInfo(f map[string]*structpb.Value) *resource.ProxyVersion {
	v := f["version"].GetStructValue().GetFields()
	if v == nil {
		return nil
	}
	out := &resource.ProxyVersion{}
	if k := v["kumaDp"].GetStructValue().GetFields(); k != nil {
		out.KumaDp = &resource.AgentVersion{
			Version: k["version"].GetStringValue(), GitTag: k["gitTag"].GetStringValue(),
			GitCommit: k["gitCommit"].GetStringValue(), BuildDate: k["buildDate"].GetStringValue(),
		}
	}
	if e := v["envoy"].GetStructValue().GetFields(); e != nil {
		out.Envoy = &resource.EnvoyVersion{
			Version: e["version"].GetStringValue(), Build: e["build"].GetStringValue(),
			KumaDpCompatible: e["kumaDpCompatible"].GetBoolValue(),
		}
	}
	add := func(name, value string) {
		if out.Dependencies == nil {
			out.Dependencies = map[string]string{}
		}
		out.Dependencies[name] = value
	}
	for name, d := range v["dependencies"].GetStructValue().GetFields() {
		add(name, d.GetStringValue())
	}
	for name, d := range f["dynamicMetadata"].GetStructValue().GetFields() {
		if dep, ok := strings.CutPrefix(name, "version.dependencies."); ok {
			add(dep, d.GetStringValue())
		}
	}
	return out
}

// compatible is the rule for kumaCpCompatible (contract agent.md §2.6): previews and versions that are none count as
// compatible, else the major version is equal and the minor one at most two away.
func compatible(agent, controlPlane string) bool {
	if strings.Contains(agent, "preview") || strings.Contains(controlPlane, "preview") {
		return true
	}
	aMajor, aMinor, ok1 := majorMinor(agent)
	cMajor, cMinor, ok2 := majorMinor(controlPlane)
	if !ok1 || !ok2 {
		return true
	}
	return aMajor == cMajor && aMinor <= cMinor+2 && cMinor <= aMinor+2
}

func majorMinor(v string) (major, minor int, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(v, "v"), ".", 3)
	if len(parts) != 3 {
		return 0, 0, false
	}
	major, err1 := strconv.Atoi(parts[0])
	minor, err2 := strconv.Atoi(parts[1])
	return major, minor, err1 == nil && err2 == nil
}

// parseNodeID splits "{mesh}.{name}".
func parseNodeID(id string) (topology.ProxyID, error) {
	mesh, name, ok := strings.Cut(id, ".")
	if !ok || name == "" {
		return topology.ProxyID{}, fmt.Errorf("node id %q is not <mesh>.<name>", id)
	}
	return topology.ProxyID{Mesh: mesh, Name: name}, nil
}
