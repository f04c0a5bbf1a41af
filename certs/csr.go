package certs

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
)

// maxCSR bounds a certificate request, in bytes of PEM; one with an RSA-8192 key has 3 KiB.
const maxCSR = 16 << 10

// NewCSR makes a certificate request for key as PEM. It names nothing: the control plane derives every name from the
// authenticated Dataplane and ignores those of a request.
func NewCSR(key crypto.Signer) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return encodePEM("CERTIFICATE REQUEST", der), nil
}

// ParseCSR returns the public key of a PEM certificate request, after checking that the sender holds the private key and
// that the key is neither weak nor costly. Nothing else of a request is of use, hence nothing else is returned.
func ParseCSR(text []byte) (crypto.PublicKey, error) {
	if len(text) > maxCSR {
		return nil, fmt.Errorf("read certificate request: %d bytes are more than %d", len(text), maxCSR)
	}
	block, err := firstBlock(text, "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST")
	if err != nil {
		return nil, fmt.Errorf("read certificate request: %w", err)
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read certificate request: %w", err)
	}
	if err := checkPublicKey(req.PublicKey); err != nil { // before the signature: an absurd key makes that slow
		return nil, fmt.Errorf("read certificate request: %w", err)
	}
	if req.CheckSignature() != nil {
		return nil, errors.New("read certificate request: it is not signed by its own key")
	}
	return req.PublicKey, nil
}
