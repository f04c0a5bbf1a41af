package topology

import (
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// The vocabulary of random resources is small, so that they meet.
func pick(rt *rapid.T, label string, of ...string) string {
	return rapid.SampledFrom(of).Draw(rt, label)
}

func anyOp(rt *rapid.T) store.Op {
	r := anyResource(rt)
	if rapid.IntRange(0, 4).Draw(rt, "delete") == 0 {
		return store.Op{Action: store.Delete, Resource: r}
	}
	return store.Op{Action: store.Upsert, Resource: r}
}

func anyResource(rt *rapid.T) *resource.Resource {
	r := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Mesh: pick(rt, "mesh", "m", "m", "m", "n")}}}
	switch pick(rt, "kind", "mesh", "dataplane", "dataplane", "dataplane", "insight", "service", "service", "status", "multi zone", "multi zone", "policy", "policy", "older", "route", "secret", "external", "external name", "ingress", "egress", "zone", "vips", "vips") {
	case "mesh":
		r.Key = resource.Key{Kind: resource.KindMesh, Name: r.Mesh}
		r.Spec = &resource.Mesh{MeshServices: &resource.MeshServicesConf{Mode: pick(rt, "mode", "Exclusive", "Exclusive", "Disabled", "Everywhere", "ReachableBackends")}}
		if rapid.Bool().Draw(rt, "mtls") {
			r.Spec.(*resource.Mesh).Routing = &resource.MeshRouting{ZoneEgress: rapid.Bool().Draw(rt, "zone egress")}
			r.Spec.(*resource.Mesh).MTLS = &resource.MTLS{EnabledBackend: "ca", Backends: []*resource.MTLSBackend{{Name: "ca", Type: "builtin"}}}
		}
	case "dataplane":
		r.Kind, r.Name = resource.KindDataplane, anyProxy(rt)
		r.Labels = anyLabels(rt)
		r.Spec = &resource.Dataplane{Networking: anyNetworking(rt)}
	case "insight":
		r.Kind, r.Name = resource.KindDataplaneInsight, anyProxy(rt)
		in := &resource.DataplaneInsight{Subscriptions: []*resource.Subscription{{ConnectTime: pick(rt, "connected", "", "2026-01-01T00:00:00Z")}}}
		if rapid.Bool().Draw(rt, "identity") {
			in.MTLS = &resource.InsightMTLS{IssuedBackend: "ca"}
		}
		r.Spec = in
	case "service", "status":
		r.Kind, r.Name = resource.KindMeshService, pick(rt, "service", "s1", "s2", "s3")
		r.Labels = anyLabels(rt)
		r.Spec = anyService(rt)
		r.Status = &resource.MeshServiceStatus{
			VIPs:             []resource.VIP{{IP: pick(rt, "vip", "241.0.0.1", "241.0.0.2", "241.0.0.3")}},
			DataplaneProxies: &resource.DataplaneProxyCount{Total: rapid.IntRange(0, 1).Draw(rt, "total")},
			TLS:              &resource.TLSStatus{Status: pick(rt, "tls", "Ready", "NotReady")},
		}
	case "multi zone":
		r.Kind, r.Name = resource.KindMeshMultiZoneService, pick(rt, "multi zone", "s1", "z1")
		r.Labels = anyLabels(rt)
		r.Spec = anyMultiZone(rt)
		r.Status = &resource.MeshMultiZoneServiceStatus{
			VIPs:         []resource.VIP{{IP: pick(rt, "multi zone vip", "243.0.0.1", "243.0.0.2", "241.0.0.3")}},
			MeshServices: []resource.MatchedMeshService{{Name: pick(rt, "matched", "a", "b")}},
		}
	case "external":
		r.Kind, r.Name = resource.KindMeshExternalService, pick(rt, "external", "s1", "x1")
		r.Labels = anyLabels(rt)
		r.Spec = &resource.MeshExternalService{
			Match:     resource.ExternalMatch{Port: uint32(80 + rapid.IntRange(0, 1).Draw(rt, "external port")), Protocol: pick(rt, "external protocol", "tcp", "http")},
			Endpoints: []resource.ExternalEndpoint{{Address: pick(rt, "outside", "192.0.2.1", "192.0.2.2"), Port: 443}},
		}
		r.Status = &resource.MeshExternalServiceStatus{VIP: &resource.VIP{IP: pick(rt, "external vip", "242.0.0.1", "241.0.0.3")}}
	case "external name":
		r.Kind, r.Name = resource.KindExternalService, pick(rt, "external name", "x1", "x2")
		r.Spec = &resource.ExternalService{Tags: anyTags(rt), Networking: &resource.ExternalNetworking{Address: pick(rt, "outside", "192.0.2.1:443", "x.example.com:80")}}
	case "ingress":
		r.Key = resource.Key{Kind: resource.KindZoneIngress, Name: pick(rt, "ingress", "i1", "i2")}
		r.Spec = &resource.ZoneIngress{Zone: pick(rt, "ingress zone", "z", "z", ""), Networking: &resource.ZoneIngressNetworking{
			Address: "10.1.0.1", Port: 10001, AdvertisedAddress: pick(rt, "advertised", "192.0.2.8", "192.0.2.9"), AdvertisedPort: 10001,
		}}
		for range rapid.IntRange(0, 2).Draw(rt, "available") {
			spec := r.Spec.(*resource.ZoneIngress)
			spec.AvailableServices = append(spec.AvailableServices, resource.AvailableService{Mesh: pick(rt, "available mesh", "m", "n"), Tags: anyTags(rt), Instances: 2})
		}
	case "egress":
		r.Key = resource.Key{Kind: resource.KindZoneEgress, Name: pick(rt, "egress", "e1", "e2")}
		r.Spec = &resource.ZoneEgress{Zone: pick(rt, "egress zone", "z", "zone-a", ""), Networking: &resource.ZoneEgressNetworking{Address: pick(rt, "egress address", "10.1.0.8", "10.1.0.9"), Port: 10002}}
	case "zone":
		r.Key = resource.Key{Kind: resource.KindZone, Name: "z"}
		r.Spec = &resource.Zone{Enabled: new(rapid.Bool().Draw(rt, "enabled"))}
	case "vips":
		r.Key = resource.Key{Kind: resource.KindConfig, Name: resource.ServiceVIPsName(r.Mesh)}
		r.Spec = anyServiceVIPs(rt)
	case "secret":
		r.Kind, r.Name = resource.KindSecret, pick(rt, "secret", "ca", "dataplane-token-signing-key")
		r.Spec = &resource.Secret{Data: []byte(pick(rt, "data", "a", "b"))}
	case "policy":
		r.Kind, r.Name = resource.Kind(pick(rt, "policy kind", string(kindRetry), string(kindTimeout))), pick(rt, "policy", "p1", "p2")
		r.Labels = anyLabels(rt)
		r.Spec = anyPolicy(rt, false)
	case "older":
		r.Name, r.Spec = pick(rt, "older", "o1", "o2"), anyOlder(rt)
		r.Kind = olderKind(r.Spec)
	case "route":
		r.Kind, r.Name = kindRoute, pick(rt, "route", "r1", "r2")
		r.Spec = anyPolicy(rt, true)
	}
	return r
}

// anyServiceVIPs is what a mesh of other services may have, or something that cannot be read.
func anyServiceVIPs(rt *rapid.T) *resource.Config {
	v := resource.ServiceVIPs{}
	for _, name := range []string{"s1", "s2", "gone"} {
		if ip := pick(rt, "legacy vip", "", "240.0.0.1", "240.0.0.2"); ip != "" {
			v[resource.ServiceVIPKey(name)] = resource.ServiceVIP{Address: ip, Outbounds: []resource.ServiceVIPPort{{Port: uint32(80 + rapid.IntRange(0, 1).Draw(rt, "vip port"))}}}
		}
	}
	c, err := v.Encode()
	if err != nil {
		rt.Fatal(err)
	}
	c.Config += pick(rt, "damage", "", "", "", "{")
	return c
}

func anyProxy(rt *rapid.T) string { return pick(rt, "proxy", "d1", "d2", "d3", "d4") }

func anyLabels(rt *rapid.T) map[string]string {
	out := map[string]string{}
	for _, of := range [][]string{
		{"tier", "", "gold", "tin"},
		{resource.LabelZone, "", "", "z"},
		{resource.LabelOrigin, "", "", "global"},
		{resource.LabelDisplayName, "", "", "s1"},
		{resource.LabelPolicyRole, "", "producer"},
		{resource.LabelEffect, "", "", "", "shadow"},
	} {
		if v := pick(rt, of[0], of[1:]...); v != "" {
			out[of[0]] = v
		}
	}
	return out
}

func anyTags(rt *rapid.T) map[string]string {
	out := map[string]string{resource.TagService: pick(rt, "tag service", "s1", "s2", "s3")}
	if v := pick(rt, "tag app", "", "a", "b"); v != "" {
		out["app"] = v
	}
	if v := pick(rt, "tag protocol", "", "http", "tcp"); v != "" {
		out[resource.TagProtocol] = v
	}
	return out
}

func anyNetworking(rt *rapid.T) *resource.Networking {
	n := &resource.Networking{Address: pick(rt, "address", "10.0.0.1", "10.0.0.2", "241.0.0.1")}
	for i := range rapid.IntRange(0, 2).Draw(rt, "inbounds") {
		n.Inbound = append(n.Inbound, &resource.Inbound{
			Port: uint32(80 + rapid.IntRange(0, 1).Draw(rt, "port") + 2*i), Name: pick(rt, "name", "", "api"),
			Tags: anyTags(rt), State: pick(rt, "state", "", "Ready", "NotReady", "Ignored"),
		})
	}
	if rapid.IntRange(0, 4).Draw(rt, "gateway") == 0 {
		n.Gateway = &resource.Gateway{Tags: anyTags(rt)}
	}
	switch rapid.IntRange(0, 4).Draw(rt, "tp") {
	case 0:
		n.Outbound = []*resource.Outbound{{Port: 1000, BackendRef: new(anyRef(rt))}, {Port: 1001, Tags: anyTags(rt)}}
	case 1:
		n.TransparentProxying = &resource.TransparentProxying{ReachableServices: []string{"x", pick(rt, "reachable", "s1", "s2")}}
	case 2:
		n.TransparentProxying = &resource.TransparentProxying{}
	default:
		list := &resource.ReachableBackends{}
		for range rapid.IntRange(0, 2).Draw(rt, "refs") {
			list.Refs = append(list.Refs, anyRef(rt))
		}
		n.TransparentProxying = &resource.TransparentProxying{ReachableBackends: list}
	}
	if tp := n.TransparentProxying; tp != nil {
		if s := pick(rt, "direct", "", "", "s1", "*"); s != "" {
			tp.DirectAccessServices = []string{s}
		}
	}
	return n
}

func anyRef(rt *rapid.T) resource.OutboundRef {
	ref := resource.OutboundRef{Kind: resource.Kind(pick(rt, "ref kind", policy.MeshService, policy.MeshService, policy.MeshMultiZoneService, policy.MeshExternalService)), Port: uint32(rapid.SampledFrom([]int{0, 80, 81}).Draw(rt, "ref port"))}
	if rapid.Bool().Draw(rt, "by labels") {
		ref.Labels = map[string]string{"tier": pick(rt, "ref tier", "gold", "tin")}
	} else {
		ref.Name = pick(rt, "ref name", "s1", "s2", "s3", "z1", "x1")
	}
	return ref
}

func anyService(rt *rapid.T) *resource.MeshService {
	s := &resource.MeshService{Identities: []resource.ServiceIdentity{{Type: "ServiceTag", Value: pick(rt, "identity", "a", "b")}}, State: pick(rt, "service state", "Available", "Unavailable")}
	switch rapid.IntRange(0, 4).Draw(rt, "selector") {
	case 0:
		s.Selector = &resource.ServiceSelector{DataplaneRef: &resource.DataplaneRef{Name: anyProxy(rt)}}
	case 1:
	default:
		s.Selector = &resource.ServiceSelector{DataplaneTags: anyTags(rt)}
	}
	for i := range rapid.IntRange(0, 2).Draw(rt, "ports") {
		p := resource.ServicePort{Port: uint32(80 + i), TargetPort: resource.IntOrString{Int: uint32(80 + rapid.IntRange(0, 3).Draw(rt, "target"))}}
		if rapid.IntRange(0, 3).Draw(rt, "named target") == 0 {
			p.TargetPort = resource.IntOrString{Str: "api"}
		}
		s.Ports = append(s.Ports, p)
	}
	return s
}

func anyMultiZone(rt *rapid.T) *resource.MeshMultiZoneService {
	s := &resource.MeshMultiZoneService{}
	if label := pick(rt, "match", "tier", "tier", resource.LabelDisplayName, ""); label != "" {
		s.Selector.MeshService.MatchLabels = map[string]string{label: pick(rt, "match value", "gold", "tin", "s1")}
	}
	for i := range rapid.IntRange(0, 2).Draw(rt, "multi zone ports") {
		s.Ports = append(s.Ports, resource.MultiZonePort{Port: uint32(80 + i)})
	}
	return s
}

func anyPolicy(rt *rapid.T, route bool) *testPolicy {
	p := &testPolicy{Conf: pick(rt, "conf", "1", "2")}
	switch pick(rt, "target", "", policy.MeshSubset, policy.MeshSubset, policy.MeshService, policy.MeshHTTPRoute) {
	case policy.MeshSubset:
		p.TargetRef = &policy.TargetRef{Kind: policy.MeshSubset, Tags: map[string]string{"app": pick(rt, "subset", "a", "b", "*")}}
		if rapid.Bool().Draw(rt, "types") {
			p.TargetRef.ProxyTypes = []string{pick(rt, "type", "Sidecar", "Gateway")}
		}
	case policy.MeshService:
		p.TargetRef = &policy.TargetRef{Kind: policy.MeshService, Name: pick(rt, "target service", "s1", "s2")}
	case policy.MeshHTTPRoute:
		if !route {
			p.TargetRef = &policy.TargetRef{Kind: policy.MeshHTTPRoute, Name: "r1"}
		}
	}
	for range rapid.IntRange(0, 2).Draw(rt, "items") {
		item := testItem{TargetRef: anyTarget(rt)}
		if route {
			rule := testRule{BackendRefs: []policy.BackendRef{anyBackend(rt)}}
			if rapid.IntRange(0, 3).Draw(rt, "mirror") == 0 {
				rule.Mirror = &testMirror{anyBackend(rt)}
			}
			item.Rules = []testRule{rule}
		}
		p.To = append(p.To, item)
	}
	return p
}

func anyOlder(rt *rapid.T) resource.Spec {
	connections := resource.Connections{Sources: anySelectors(rt), Destinations: anySelectors(rt)}
	switch pick(rt, "older kind", "permission", "log", "trace") {
	case "permission":
		return &resource.TrafficPermission{Connections: connections}
	case "log":
		return &resource.TrafficLog{Connections: connections}
	default:
		return &resource.TrafficTrace{Selectors: connections.Sources}
	}
}

func olderKind(spec resource.Spec) resource.Kind {
	switch spec.(type) {
	case *resource.TrafficPermission:
		return resource.KindTrafficPermission
	case *resource.TrafficLog:
		return resource.KindTrafficLog
	default:
		return resource.KindTrafficTrace
	}
}

func anySelectors(rt *rapid.T) []resource.Selector {
	var out []resource.Selector
	for range rapid.IntRange(1, 2).Draw(rt, "selectors") {
		tags := map[string]string{resource.TagService: pick(rt, "select service", "s1", "s2", "*")}
		if v := pick(rt, "select app", "", "", "a", "*"); v != "" {
			tags["app"] = v
		}
		if v := pick(rt, "select zone", "", "", "", "zone-a"); v != "" {
			tags[resource.TagZone] = v
		}
		out = append(out, resource.Selector{Match: tags})
	}
	return out
}

func anyTarget(rt *rapid.T) policy.TargetRef {
	r := anyRef(rt)
	return policy.TargetRef{Kind: string(r.Kind), Name: r.Name, Labels: r.Labels}
}

// anyBackend is a real ref, one by tags, or one by the name of a cluster.
func anyBackend(rt *rapid.T) policy.BackendRef {
	b := policy.BackendRef{TargetRef: anyTarget(rt)}
	switch rapid.IntRange(0, 3).Draw(rt, "backend") {
	case 0:
		b.TargetRef = policy.TargetRef{Kind: policy.MeshServiceSubset, Name: pick(rt, "subset of", "s1", "s2"), Tags: map[string]string{"app": "a"}}
	case 1:
		b.TargetRef = policy.TargetRef{Kind: policy.MeshService, Name: pick(rt, "cluster", "s1", "s2", "m_s1___msvc_80", "m_s2__z_msvc_81", "m_x1___extsvc_80")}
	default:
		b.Port = new(uint32(80 + rapid.IntRange(0, 1).Draw(rt, "backend port")))
	}
	return b
}
