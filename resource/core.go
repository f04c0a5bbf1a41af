package resource

// Core returns the descriptors of the kinds that are not policies (contract controlplane.md §2.1). The caller may keep
// and change them; each call makes new ones.
func Core() []*Descriptor {
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
			Kind: KindDataplaneInsight, Path: "dataplane-insights", Singular: "Dataplane Insight", Plural: "Dataplane Insights",
			Flat: true, ReadOnly: true, Volatile: true,
			NewSpec: func() Spec { return &DataplaneInsight{} },
		},
		{
			Kind: KindMeshService, Path: "meshservices", Singular: "Mesh Service", Plural: "Mesh Services",
			NewSpec:   func() Spec { return &MeshService{} },
			NewStatus: func() any { return &MeshServiceStatus{} },
		},
		{
			Kind: KindHostnameGenerator, Path: "hostnamegenerators", Singular: "Hostname Generator", Plural: "Hostname Generators",
			InFederation: true,
			NewSpec:      func() Spec { return &HostnameGenerator{} },
		},
		{
			Kind: KindZone, Path: "zones", Singular: "Zone", Plural: "Zones",
			Flat:    true,
			NewSpec: func() Spec { return &Zone{} },
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

// scopeOf tells the scope of a kind from its name, for rules that see a resource without its descriptor. Every policy
// is mesh scoped (contract policies.md §1.1).
func scopeOf(k Kind) Scope {
	switch k {
	case KindMesh, KindHostnameGenerator, KindZone, KindGlobalSecret, KindConfig:
		return ScopeGlobal
	default:
		return ScopeMesh
	}
}

// creatableInZone tells whether a zone may make objects of the kind, so that they carry its name (contract policies.md
// §1.4: the kind is synchronised away from its zone).
func creatableInZone(k Kind) bool {
	switch k {
	case KindMesh, KindZone, KindSecret, KindGlobalSecret, KindConfig, KindDataplaneInsight:
		return false
	default:
		return true
	}
}
