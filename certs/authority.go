package certs

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// How far NotBefore lies in the past, so that a peer whose clock is behind accepts a new certificate. That of authorities is
// Kuma's (contract controlplane.md §5.1); that of leaves, which are new more often, is what hosts were found to be off by
// (demands.md §1, #17).
const (
	backdate     = 10 * time.Second
	leafBackdate = 5 * time.Minute
)

// Authority signs leaves. It is immutable and safe for concurrent use.
type Authority struct {
	cert  *x509.Certificate
	key   crypto.Signer
	chain []byte
}

// AuthorityConfig says what NewAuthority makes.
type AuthorityConfig struct {
	// Mesh becomes the common name and the trust domain.
	Mesh string
	// RSABits is the size of the key, 2048 when 0.
	RSABits int
	// ECDSA makes a key on P-256 instead.
	ECDSA bool
	// Lifetime is ten years when 0.
	Lifetime time.Duration
	Now      time.Time
}

// DefaultAuthorityLifetime is the lifetime of an authority that says none (contract controlplane.md §5.1).
const DefaultAuthorityLifetime = 10 * 365 * 24 * time.Hour

// NewAuthority makes the self-signed authority of a mesh, in the form of contract controlplane.md §5.1: RSA unless told otherwise,
// serial 0, subject O=Kuma OU=Mesh CN={mesh}, URI SAN spiffe://{mesh}. It returns certificate and key as PEM.
func NewAuthority(cfg AuthorityConfig) (certPEM, keyPEM []byte, err error) {
	if _, err := ParseSPIFFEID(SPIFFEID{TrustDomain: cfg.Mesh}.String()); err != nil {
		return nil, nil, fmt.Errorf("make authority: %w", err)
	}
	bits, life := cfg.RSABits, cfg.Lifetime
	if bits == 0 {
		bits = 2048
	}
	if bits < minRSABits || bits > maxRSABits {
		return nil, nil, fmt.Errorf("make authority of mesh %s: RSA key of %d bits is outside %d..%d", cfg.Mesh, bits, minRSABits, maxRSABits)
	}
	if life == 0 {
		life = DefaultAuthorityLifetime
	}
	var key crypto.Signer
	if cfg.ECDSA {
		key, err = NewKey(ECDSAP256)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, bits)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("make key of authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(0),
		Subject:               pkix.Name{Organization: []string{"Kuma"}, OrganizationalUnit: []string{"Mesh"}, CommonName: cfg.Mesh},
		URIs:                  []*url.URL{{Scheme: "spiffe", Host: cfg.Mesh}},
		NotBefore:             cfg.Now.Add(-backdate),
		NotAfter:              cfg.Now.Add(life),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign authority of mesh %s: %w", cfg.Mesh, err)
	}
	keyPEM, err = EncodeKey(key)
	return encodePEM("CERTIFICATE", der), keyPEM, err
}

// LoadAuthority reads an authority: the first certificate must be allowed to sign certificates, must not be a leaf's
// (key agreement), and must belong to key (contract controlplane.md §5.1, provided). What follows it are further roots.
func LoadAuthority(certPEM, keyPEM []byte) (*Authority, error) {
	list, err := ParseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	ca := list[0]
	switch {
	case !ca.BasicConstraintsValid || !ca.IsCA:
		return nil, errors.New("load authority: basic constraint 'CA' must be set to 'true' (see X509-SVID: 4.1. Basic Constraints)")
	case ca.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("load authority: key usage extension 'keyCertSign' must be set (see X509-SVID: 4.3. Key Usage)")
	case ca.KeyUsage&x509.KeyUsageKeyAgreement != 0:
		return nil, errors.New("load authority: key usage extension 'keyAgreement' must NOT be set (see X509-SVID: 4.3. Key Usage)")
	case !SamePublicKey(ca.PublicKey, key.Public()):
		return nil, errors.New("load authority: the key does not belong to the first certificate")
	}
	return &Authority{cert: ca, key: key, chain: EncodeCertificates(list...)}, nil
}

// Bundle returns the roots to trust, as PEM. It must not be changed.
func (a *Authority) Bundle() []byte { return a.chain }

// Certificate is the one that signs. It must not be changed.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// NotAfter is when the authority expires.
func (a *Authority) NotAfter() time.Time { return a.cert.NotAfter }

// SignRequest says what Sign puts into a leaf.
type SignRequest struct {
	PublicKey crypto.PublicKey
	// URIs are all names of the leaf, in order.
	URIs []*url.URL
	// Lifetime counts from Now; it is cut where the authority itself expires.
	Lifetime time.Duration
	Now      time.Time
}

// Leaf is a signed certificate.
type Leaf struct {
	// PEM is the leaf alone.
	PEM                 []byte
	NotBefore, NotAfter time.Time
}

// Sign makes a workload's certificate (contract controlplane.md §3.4): no subject, URI names only, for both ends of a
// connection, back-dated by five minutes, with a random serial of 128 bits.
func (a *Authority) Sign(r SignRequest) (*Leaf, error) {
	if err := checkPublicKey(r.PublicKey); err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	if len(r.URIs) == 0 {
		return nil, errors.New("sign certificate: it would have no name")
	}
	if r.Lifetime <= 0 {
		return nil, fmt.Errorf("sign certificate: lifetime %s is not positive", r.Lifetime)
	}
	if !r.Now.Before(a.cert.NotAfter) {
		return nil, fmt.Errorf("sign certificate: the authority expired at %s, replace it", a.cert.NotAfter.Format(time.RFC3339))
	}
	serial, err := randomSerial()
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	notAfter := r.Now.Add(r.Lifetime)
	if notAfter.After(a.cert.NotAfter) {
		notAfter = a.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		URIs:                  r.URIs,
		NotBefore:             r.Now.Add(-leafBackdate).Truncate(time.Second),
		NotAfter:              notAfter.Truncate(time.Second),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, r.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return &Leaf{PEM: encodePEM("CERTIFICATE", der), NotBefore: template.NotBefore, NotAfter: template.NotAfter}, nil
}

// randomSerial returns a number of 1..2^128.
func randomSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return nil, fmt.Errorf("make serial: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}
