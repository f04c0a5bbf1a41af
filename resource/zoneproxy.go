package resource

// ZoneIngress is the proxy through which other zones reach the services of its zone (contract controlplane.md §1.6).
type ZoneIngress struct {
	// Zone is empty on the zone's own control plane, and set on what came from another zone.
	Zone       string                 `json:"zone,omitempty"`
	Networking *ZoneIngressNetworking `json:"networking,omitempty"`
	// AvailableServices are what the zone offers, computed by the control plane.
	AvailableServices []AvailableService `json:"availableServices,omitempty"`
}

// ZoneIngressNetworking says where the ingress listens, and where other zones find it.
type ZoneIngressNetworking struct {
	// Address is where the ingress listens.
	Address string `json:"address,omitempty"`
	// AdvertisedAddress is the address for other zones.
	AdvertisedAddress string `json:"advertisedAddress,omitempty"`
	// Port is the port where it listens.
	Port uint32 `json:"port,omitempty"`
	// AdvertisedPort is the port for other zones.
	AdvertisedPort uint32 `json:"advertisedPort,omitempty"`
	Admin          *Admin `json:"admin,omitempty"`
}

// AvailableService is a kuma.io/service that the zone offers to others.
type AvailableService struct {
	// Tags are the tags of the service.
	Tags map[string]string `json:"tags,omitempty"`
	// Instances are how many proxies serve it.
	Instances uint32 `json:"instances,omitempty"`
	// Mesh is the service's.
	Mesh string `json:"mesh,omitempty"`
	// ExternalService says that it is outside of the mesh.
	ExternalService bool `json:"externalService,omitempty"`
}

// ZoneEgress is the proxy through which a zone reaches external services.
type ZoneEgress struct {
	// Zone is the egress's zone.
	Zone       string                `json:"zone,omitempty"`
	Networking *ZoneEgressNetworking `json:"networking,omitempty"`
}

// ZoneEgressNetworking says where the egress listens.
type ZoneEgressNetworking struct {
	// Address is where the egress listens.
	Address string `json:"address,omitempty"`
	// Port is the port there.
	Port  uint32 `json:"port,omitempty"`
	Admin *Admin `json:"admin,omitempty"`
}

// Public tells whether other zones can reach the ingress: they need an address and a port of it.
func (z *ZoneIngress) Public() bool {
	n := z.Networking
	return n != nil && n.AdvertisedAddress != "" && n.AdvertisedPort != 0
}

// Validate checks addresses and ports as those of a Dataplane are. The address may be absent: its own process tells it.
func (z *ZoneIngress) Validate(*Meta) []Violation {
	var f Faults
	n := z.Networking
	if n == nil {
		n = &ZoneIngressNetworking{}
	}
	p := Path("networking")
	validateProxy(&f, p, n.Address, n.Port, n.Admin)
	validateAddress(&f, p.Field("advertisedAddress"), n.AdvertisedAddress)
	if n.AdvertisedPort > 65535 {
		f.port(p.Field("advertisedPort"), n.AdvertisedPort)
	}
	switch {
	case n.AdvertisedAddress == "" && n.AdvertisedPort != 0:
		f.Add(p.Field("advertisedAddress"), "has to be defined with advertisedPort")
	case n.AdvertisedAddress != "" && n.AdvertisedPort == 0:
		f.Add(p.Field("advertisedPort"), "has to be defined with advertisedAddress")
	}
	for i, s := range z.AvailableServices {
		tags := Path("availableServices").Index(i).Field("tags")
		requireService(&f, tags, s.Tags)
		validateTags(&f, tags, s.Tags, isTagValue)
	}
	return f
}

// Validate checks address and ports.
func (z *ZoneEgress) Validate(*Meta) []Violation {
	var f Faults
	n := z.Networking
	if n == nil {
		n = &ZoneEgressNetworking{}
	}
	validateProxy(&f, "networking", n.Address, n.Port, n.Admin)
	return f
}

func validateProxy(f *Faults, p Path, address string, port uint32, admin *Admin) {
	validateAddress(f, p.Field("address"), address)
	f.port(p.Field("port"), port)
	if admin == nil || admin.Port == 0 {
		return
	}
	f.port(p.Field("admin").Field("port"), admin.Port)
	if admin.Port == port {
		f.Add(p.Field("admin").Field("port"), "must differ from port")
	}
}

func validateAddress(f *Faults, p Path, address string) {
	switch {
	case address == "":
	case isUnspecified(address):
		f.Add(p, "must not be 0.0.0.0 or ::")
	case !isHost(address):
		f.Add(p, badAddress)
	}
}
