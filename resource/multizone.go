package resource

// MeshMultiZoneService joins the MeshServices of all zones that its selector matches under one address (contract
// policies.md §2.4).
type MeshMultiZoneService struct {
	Selector MultiZoneSelector `json:"selector"`
	// Ports are the ports of its virtual address.
	Ports []MultiZonePort `json:"ports,omitempty"`
}

// MultiZoneSelector chooses MeshServices by their labels.
type MultiZoneSelector struct {
	MeshService LabelSelector `json:"meshService"`
}

// MultiZonePort is one port of the VIP. It leads to the port of the same number of every matched MeshService.
type MultiZonePort struct {
	// Name is the section name; the decimal port when empty.
	Name string `json:"name,omitempty"`
	// Port is the port of the virtual address, and of every MeshService behind it.
	Port uint32 `json:"port"`
	// AppProtocol is tcp (also when empty), http, http2, grpc or kafka.
	AppProtocol string `json:"appProtocol,omitempty" k8s:"tcp"`
}

// MeshMultiZoneServiceStatus is computed by the control plane.
type MeshMultiZoneServiceStatus struct {
	Addresses          []ServiceAddress     `json:"addresses,omitempty"`
	VIPs               []VIP                `json:"vips,omitempty"`
	MeshServices       []MatchedMeshService `json:"meshServices,omitempty"`
	HostnameGenerators []GeneratorStatus    `json:"hostnameGenerators,omitempty"`
}

// MatchedMeshService names a MeshService by the parts of its identity (contract policies.md §1.6). Empty parts are
// written too.
type MatchedMeshService struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	Zone      string `json:"zone"`
	Mesh      string `json:"mesh"`
}

// Matches tells whether the selector chooses a MeshService with these labels. An empty selector, which is not valid,
// chooses none.
func (s *MultiZoneSelector) Matches(labels map[string]string) bool {
	for k, v := range s.MeshService.MatchLabels {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return len(s.MeshService.MatchLabels) > 0
}

// ServicePort returns the port as one of a MeshService, without a target.
func (p MultiZonePort) ServicePort() ServicePort {
	return ServicePort{Name: p.Name, Port: p.Port, AppProtocol: p.AppProtocol}
}

// Validate applies contract policies.md §2.4, and the checks of a MeshService's ports.
func (s *MeshMultiZoneService) Validate(*Meta) []Violation {
	var f Faults
	if len(s.Selector.MeshService.MatchLabels) == 0 {
		f.Add("spec.selector.meshService.matchLabels", "cannot be empty")
	}
	ports := Path("spec.ports")
	if len(s.Ports) == 0 {
		f.Add(ports, "cannot be empty")
	}
	seen := map[string]bool{}
	for i, port := range s.Ports {
		p, sp := ports.Index(i), port.ServicePort()
		f.port(p.Field("port"), port.Port)
		if section := sp.Section(); seen[section] {
			f.Add(p.Field("name"), "must be unique")
		} else {
			seen[section] = true
		}
	}
	return f
}
