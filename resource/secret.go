package resource

// Secret holds bytes that only administrators read. Flat: {"type","mesh","name","data": base64}.
type Secret struct {
	// Data is the bytes in base64.
	Data []byte `json:"data,omitempty"`
}

// GlobalSecret has the same body as Secret and no mesh.
type GlobalSecret = Secret

// Config is a hidden key-value of the control plane itself, such as kuma-cluster-id.
type Config struct {
	Config string `json:"config,omitempty"`
}

// Zone is one installation of control plane and proxies.
type Zone struct {
	// Enabled is true when absent.
	Enabled *bool `json:"enabled,omitempty"`
}

// Validate wants some data (contract controlplane.md §2.6).
func (s *Secret) Validate(*Meta) []Violation {
	if len(s.Data) == 0 {
		return []Violation{{Field: "data", Reason: "cannot be empty"}}
	}
	return nil
}

// Validate finds no faults: any text will do.
func (*Config) Validate(*Meta) []Violation { return nil }

// Validate finds no faults: the only field is a boolean.
func (*Zone) Validate(*Meta) []Violation { return nil }

// IsEnabled tells whether the zone's services are offered to the others.
func (z *Zone) IsEnabled() bool { return z.Enabled == nil || *z.Enabled }
