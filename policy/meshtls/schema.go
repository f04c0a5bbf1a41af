// Package meshtls says whether inbounds accept plaintext too, and which TLS versions and ciphers proxies use (contract
// policies.md §5).
package meshtls

import "github.com/kuma-dp/kuma-dp/policy"

// Spec is the body of a MeshTLS.
type Spec struct {
	policy.FromSpec[Conf]
}

// Conf says nothing about what it leaves out.
type Conf struct {
	// Mode is Strict or Permissive; empty leaves it to the mesh's backend.
	Mode string `json:"mode,omitempty"`
	// TLSVersion bounds the version; it is for a policy of the whole mesh only.
	TLSVersion *Version `json:"tlsVersion,omitempty"`
	// TLSCiphers holds names of Ciphers, in the order of preference. They need a TLSVersion to have an effect.
	TLSCiphers []string `json:"tlsCiphers,omitempty"`
}

// Version bounds the TLS version; both ends are names of Versions, or empty.
type Version struct {
	// Min is the oldest version that is spoken.
	Min string `json:"min,omitempty" k8s:"TLSAuto"`
	// Max is the newest one.
	Max string `json:"max,omitempty" k8s:"TLSAuto"`
}

// Values of Conf.Mode.
const (
	Strict     = "Strict"
	Permissive = "Permissive"
)

// VersionAuto leaves the version to Envoy.
const VersionAuto = "TLSAuto"

// Versions returns the names of TLS versions, VersionAuto and then from old to new.
func Versions() []string { return []string{VersionAuto, "TLS10", "TLS11", "TLS12", "TLS13"} }

// Ciphers returns the names that Conf.TLSCiphers may hold; they are Envoy's.
func Ciphers() []string {
	return []string{
		"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305",
		"ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-CHACHA20-POLY1305",
	}
}
