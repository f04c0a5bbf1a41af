package hostname

import "github.com/kuma-dp/kuma-dp/resource"

// serviceKind is what differs between the kinds of services that have addresses and hostnames.
type serviceKind struct {
	kind resource.Kind
	// selector returns the one of a generator that is for the kind, nil when it is for another.
	selector func(*resource.GeneratorSelector) *resource.LabelSelector
	// read returns what a stored status says; the zero value when there is none.
	read func(status any) published
	// write returns a copy of a status, which may be nil, that says p; the rest of the status stays.
	write func(status any, p published) any
}

// published is the part of a status that this package computes.
type published struct {
	VIPs       []resource.VIP
	Addresses  []resource.ServiceAddress
	Generators []resource.GeneratorStatus
}

func meshService() *serviceKind {
	return &serviceKind{
		kind:     resource.KindMeshService,
		selector: func(s *resource.GeneratorSelector) *resource.LabelSelector { return s.MeshService },
		read: func(status any) published {
			s, _ := status.(*resource.MeshServiceStatus)
			if s == nil {
				return published{}
			}
			return published{s.VIPs, s.Addresses, s.HostnameGenerators}
		},
		write: func(status any, p published) any {
			out := resource.MeshServiceStatus{}
			if s, _ := status.(*resource.MeshServiceStatus); s != nil {
				out = *s
			}
			out.VIPs, out.Addresses, out.HostnameGenerators = p.VIPs, p.Addresses, p.Generators
			return &out
		},
	}
}

func multiZone() *serviceKind {
	return &serviceKind{
		kind:     resource.KindMeshMultiZoneService,
		selector: func(s *resource.GeneratorSelector) *resource.LabelSelector { return s.MeshMultiZoneService },
		read: func(status any) published {
			s, _ := status.(*resource.MeshMultiZoneServiceStatus)
			if s == nil {
				return published{}
			}
			return published{s.VIPs, s.Addresses, s.HostnameGenerators}
		},
		write: func(status any, p published) any {
			out := resource.MeshMultiZoneServiceStatus{}
			if s, _ := status.(*resource.MeshMultiZoneServiceStatus); s != nil {
				out = *s
			}
			out.VIPs, out.Addresses, out.HostnameGenerators = p.VIPs, p.Addresses, p.Generators
			return &out
		},
	}
}

// external has one address where the others have a list.
func external() *serviceKind {
	return &serviceKind{
		kind:     resource.KindMeshExternalService,
		selector: func(s *resource.GeneratorSelector) *resource.LabelSelector { return s.MeshExternalService },
		read: func(status any) published {
			s, _ := status.(*resource.MeshExternalServiceStatus)
			if s == nil {
				return published{}
			}
			out := published{nil, s.Addresses, s.HostnameGenerators}
			if s.VIP != nil {
				out.VIPs = []resource.VIP{*s.VIP}
			}
			return out
		},
		write: func(status any, p published) any {
			out := resource.MeshExternalServiceStatus{}
			if s, _ := status.(*resource.MeshExternalServiceStatus); s != nil {
				out = *s
			}
			out.VIP, out.Addresses, out.HostnameGenerators = nil, p.Addresses, p.Generators
			if len(p.VIPs) > 0 {
				out.VIP = new(p.VIPs[0])
			}
			return &out
		},
	}
}
