package resource

// In the older, protobuf kinds the first value of an enumeration is the same as none, and protobuf's JSON leaves it out
// (contract policies.md §2.7, §2.8): so do we.

// unless returns value, or nothing when it is the first of its enumeration.
func unless(value, first string) string {
	if value == first {
		return ""
	}
	return value
}

// MarshalJSON leaves out state Ready.
func (in Inbound) MarshalJSON() ([]byte, error) {
	type plain Inbound
	in.State = unless(in.State, InboundReady)
	return marshal(plain(in))
}

// MarshalJSON leaves out type DELEGATED.
func (g Gateway) MarshalJSON() ([]byte, error) {
	type plain Gateway
	g.Type = unless(g.Type, GatewayDelegated)
	return marshal(plain(g))
}

// MarshalJSON leaves out ipFamilyMode UnSpecified.
func (t TransparentProxying) MarshalJSON() ([]byte, error) {
	type plain TransparentProxying
	t.IPFamilyMode = unless(t.IPFamilyMode, "UnSpecified")
	return marshal(plain(t))
}

// MarshalJSON leaves out mode STRICT.
func (b MTLSBackend) MarshalJSON() ([]byte, error) {
	type plain MTLSBackend
	b.Mode = unless(b.Mode, MTLSStrict)
	return marshal(plain(b))
}

// MarshalJSON leaves out mode Disabled.
func (s MeshServicesConf) MarshalJSON() ([]byte, error) {
	type plain MeshServicesConf
	s.Mode = unless(s.Mode, MeshServicesDisabled)
	return marshal(plain(s))
}
