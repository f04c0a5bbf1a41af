package resource

import "slices"

// Core returns the descriptors of the kinds that are not policies (contract controlplane.md §2.1). The caller may keep
// and change them; each call makes new ones.
func Core() []*Descriptor {
	return slices.Concat(coreKinds(), serviceKinds(), gatewayKinds(), olderPolicies(), zoneKinds(), insightKinds())
}

func coreKinds() []*Descriptor {
	return []*Descriptor{
		{
			Kind: KindMesh, Path: "meshes", Singular: "Mesh", Plural: "Meshes",
			Flat: true, InFederation: true,
			NewSpec: func() Spec { return &Mesh{} },
		},
		{
			Kind: KindDataplane, Path: "dataplanes", Singular: "Dataplane", Plural: "Dataplanes",
			Flat:    true,
			NewSpec: func() Spec { return &Dataplane{} },
		},
		{
			Kind: KindSecret, Path: "secrets", Singular: "Secret", Plural: "Secrets",
			Flat: true, AdminOnly: true, InFederation: true,
			NewSpec: func() Spec { return &Secret{} },
		},
		{
			Kind: KindGlobalSecret, Path: "global-secrets", Singular: "Global Secret", Plural: "Global Secrets",
			Flat: true, AdminOnly: true, InFederation: true,
			NewSpec: func() Spec { return &GlobalSecret{} },
		},
		{
			Kind: KindConfig, Singular: "Config", Plural: "Configs",
			Flat: true, Hidden: true,
			NewSpec: func() Spec { return &Config{} },
		},
	}
}

func serviceKinds() []*Descriptor {
	return []*Descriptor{
		{
			Kind: KindMeshService, Path: "meshservices", Singular: "Mesh Service", Plural: "Mesh Services",
			NewSpec:   func() Spec { return &MeshService{} },
			NewStatus: func() any { return &MeshServiceStatus{} },
		},
		{
			Kind: KindMeshMultiZoneService, Path: "meshmultizoneservices", Singular: "Mesh Multi Zone Service", Plural: "Mesh Multi Zone Services",
			InFederation: true,
			NewSpec:      func() Spec { return &MeshMultiZoneService{} },
			NewStatus:    func() any { return &MeshMultiZoneServiceStatus{} },
		},
		{
			Kind: KindMeshExternalService, Path: "meshexternalservices", Singular: "Mesh External Service", Plural: "Mesh External Services",
			InFederation: true,
			NewSpec:      func() Spec { return &MeshExternalService{} },
			NewStatus:    func() any { return &MeshExternalServiceStatus{} },
		},
		{
			Kind: KindExternalService, Path: "external-services", Singular: "External Service", Plural: "External Services",
			Flat: true, InFederation: true,
			NewSpec: func() Spec { return &ExternalService{} },
		},
		{
			Kind: KindHostnameGenerator, Path: "hostnamegenerators", Singular: "Hostname Generator", Plural: "Hostname Generators",
			InFederation: true,
			NewSpec:      func() Spec { return &HostnameGenerator{} },
		},
	}
}

// gatewayKinds are policies of the older form, as `/policies` lists them.
func gatewayKinds() []*Descriptor {
	return []*Descriptor{
		{
			Kind: KindMeshGateway, Path: "meshgateways", Singular: "Mesh Gateway", Plural: "Mesh Gateways",
			Flat: true, InFederation: true, Policy: &PolicyTraits{},
			NewSpec: func() Spec { return &MeshGateway{} },
		},
		{
			Kind: KindMeshGatewayRoute, Path: "meshgatewayroutes", Singular: "Mesh Gateway Route", Plural: "Mesh Gateway Routes",
			Flat: true, InFederation: true, Policy: &PolicyTraits{},
			NewSpec: func() Spec { return &MeshGatewayRoute{} },
		},
	}
}

// olderPolicies are those from before target references.
func olderPolicies() []*Descriptor {
	policy := func(kind Kind, path, name string, spec func() Spec) *Descriptor {
		return &Descriptor{
			Kind: kind, Path: path, Singular: name, Plural: name + "s",
			Flat: true, InFederation: true, Policy: &PolicyTraits{}, NewSpec: spec,
		}
	}
	return []*Descriptor{
		policy(KindTrafficPermission, "traffic-permissions", "Traffic Permission", func() Spec { return &TrafficPermission{} }),
		policy(KindTrafficLog, "traffic-logs", "Traffic Log", func() Spec { return &TrafficLog{} }),
		policy(KindTrafficTrace, "traffic-traces", "Traffic Trace", func() Spec { return &TrafficTrace{} }),
		policy(KindFaultInjection, "fault-injections", "Fault Injection", func() Spec { return &FaultInjection{} }),
		policy(KindRateLimit, "rate-limits", "Rate Limit", func() Spec { return &RateLimit{} }),
	}
}

func zoneKinds() []*Descriptor {
	return []*Descriptor{
		{
			Kind: KindZone, Path: "zones", Singular: "Zone", Plural: "Zones",
			Flat:    true,
			NewSpec: func() Spec { return &Zone{} },
		},
		{
			Kind: KindZoneIngress, Path: "zone-ingresses", Singular: "Zone Ingress", Plural: "Zone Ingresses",
			Flat:    true,
			NewSpec: func() Spec { return &ZoneIngress{} },
		},
		{
			Kind: KindZoneEgress, Path: "zoneegresses", Singular: "Zone Egress", Plural: "Zone Egresses",
			Flat:    true,
			NewSpec: func() Spec { return &ZoneEgress{} },
		},
	}
}

// insightKinds are written by the control plane only, often, and can be made again.
func insightKinds() []*Descriptor {
	insight := func(kind Kind, path, name string, spec func() Spec) *Descriptor {
		return &Descriptor{
			Kind: kind, Path: path, Singular: name, Plural: name + "s",
			Flat: true, ReadOnly: true, Volatile: true, NewSpec: spec,
		}
	}
	return []*Descriptor{
		insight(KindDataplaneInsight, "dataplane-insights", "Dataplane Insight", func() Spec { return &DataplaneInsight{} }),
		insight(KindMeshInsight, "mesh-insights", "Mesh Insight", func() Spec { return &MeshInsight{} }),
		insight(KindServiceInsight, "service-insights", "Service Insight", func() Spec { return &ServiceInsight{} }),
		insight(KindZoneInsight, "zone-insights", "Zone Insight", func() Spec { return &ZoneInsight{} }),
		insight(KindZoneIngressInsight, "zone-ingress-insights", "Zone Ingress Insight", func() Spec { return &ZoneIngressInsight{} }),
		insight(KindZoneEgressInsight, "zoneegressinsights", "Zone Egress Insight", func() Spec { return &ZoneEgressInsight{} }),
	}
}

// scopeOf tells the scope of a kind from its name, for rules that see a resource without its descriptor. Every policy
// is mesh scoped (contract policies.md §1.1).
func scopeOf(k Kind) Scope {
	switch k {
	case KindMesh, KindHostnameGenerator, KindZone, KindGlobalSecret, KindConfig,
		KindZoneIngress, KindZoneEgress, KindMeshInsight, KindZoneInsight, KindZoneIngressInsight, KindZoneEgressInsight:
		return ScopeGlobal
	default:
		return ScopeMesh
	}
}

// creatableInZone tells whether a zone may make objects of the kind, so that they carry its name (contract policies.md
// §1.4: the kind is synchronised away from its zone).
func creatableInZone(k Kind) bool {
	switch k {
	case KindMesh, KindZone, KindSecret, KindGlobalSecret, KindConfig, KindExternalService, KindMeshGatewayRoute, KindDataplaneInsight,
		KindMeshInsight, KindServiceInsight, KindZoneInsight, KindZoneIngressInsight, KindZoneEgressInsight:
		return false
	default:
		return !isOlderPolicy(k)
	}
}
