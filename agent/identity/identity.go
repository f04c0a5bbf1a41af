// Package identity gets and renews the workload's certificate: by a request that the control plane signs, out of files, or
// from a SPIRE agent. Keys stay in memory (design.md §3.1, decision 3; contract controlplane.md §5.5).
package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/agent/clock"
	"github.com/kuma-dp/kuma-dp/certs"
)

// Feature is what an agent announces in its bootstrap request, so that the control plane leaves its identity to it.
const Feature = "feature-identity-csr"

// OwnFeature is what an agent announces beside it that asks for no certificate either: an acknowledged trust bundle means that it
// has one.
const OwnFeature = "feature-identity-own"

// State of a source.
type State string

// States.
const (
	Pending      State = "pending"       // no certificate yet
	Issued       State = "issued"        // a certificate whose key the control plane never had
	NoMTLS       State = "no-mtls"       // the mesh has no mTLS; asked again once Envoy wants a certificate
	ControlPlane State = "control-plane" // the control plane makes key and certificate and sends both
)

// Kind says where certificates come from.
type Kind string

// Kinds.
const (
	FromControlPlane Kind = "control-plane"
	FromFiles        Kind = "files"
	FromSPIRE        Kind = "spire"
)

// Status is a source at one moment; it holds no key.
type Status struct {
	Source    Kind      `json:"source"`
	State     State     `json:"state"`
	KeyType   string    `json:"keyType,omitempty"`
	CertFile  string    `json:"certFile,omitempty"`
	KeyFile   string    `json:"keyFile,omitempty"`
	CAFile    string    `json:"caFile,omitempty"`
	Socket    string    `json:"socket,omitempty"`
	URIs      []string  `json:"uris,omitempty"`
	Serial    string    `json:"serial,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
	// RenewAt is when the next certificate is asked for; zero when somebody else decides that.
	RenewAt time.Time `json:"renewAt,omitzero"`
	// Warnings say which peers refuse the certificate, and why.
	Warnings  []string `json:"warnings,omitempty"`
	LastError string   `json:"lastError,omitempty"`
}

// SVID is an identity: a certificate, its key, and the authorities that it came with. It is never changed.
type SVID struct {
	// Chain is the leaf, then intermediates, without the root.
	Chain []*x509.Certificate
	Key   crypto.Signer
	// Authorities verify Chain; nil when only the mesh's do.
	Authorities []*x509.Certificate
}

// Leaf is the workload's own certificate.
func (v *SVID) Leaf() *x509.Certificate { return v.Chain[0] }

// Secret is the SVID as Envoy takes it, private key included.
func (v *SVID) Secret(name string) (*anypb.Any, error) {
	key, err := certs.EncodeKey(v.Key)
	if err != nil {
		return nil, err
	}
	return secret(name, certs.EncodeCertificates(v.Chain...), key), nil
}

// take puts a certificate into a status whose source stays.
func (st *Status) take(v *SVID, renew time.Time) {
	leaf := v.Leaf()
	st.State, st.LastError, st.KeyType = Issued, "", keyType(leaf.PublicKey)
	st.Serial, st.NotBefore, st.NotAfter, st.RenewAt = leaf.SerialNumber.Text(16), leaf.NotBefore, leaf.NotAfter, renew
	st.URIs = nil
	for _, u := range leaf.URIs {
		st.URIs = append(st.URIs, u.String())
	}
}

// keyType is a certs.KeyType as far as there is one for the key.
func keyType(public crypto.PublicKey) string {
	switch k := public.(type) {
	case *ecdsa.PublicKey:
		return "ecdsa-" + strings.ToLower(strings.ReplaceAll(k.Curve.Params().Name, "-", ""))
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa-%d", k.N.BitLen())
	}
	return fmt.Sprintf("%T", public)
}

// verify checks a chain against authorities at the control plane's time, or the local one when that is not known.
func verify(chain, authorities []*x509.Certificate, key crypto.Signer, c *clock.Clock) error {
	_, err := certs.Verify(certs.EncodeCertificates(chain...), certs.EncodeCertificates(authorities...), key, c.Now())
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return fmt.Errorf("%w; %s", err, c)
	}
	return err
}

func explain(err error) string {
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	return err.Error()
}
