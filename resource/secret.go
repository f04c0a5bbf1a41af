package resource

// Secret holds bytes that only administrators read. Flat: {"type","mesh","name","data": base64}.
// GlobalSecret has the same body and no mesh.
type Secret struct {
	Data []byte `json:"data,omitempty"`
}

// Config is a hidden key-value of the control plane itself, such as kuma-cluster-id.
type Config struct {
	Config string `json:"config,omitempty"`
}

// Zone is one installation of control plane and proxies.
type Zone struct {
	// Enabled is true when absent.
	Enabled *bool `json:"enabled,omitempty"`
}
