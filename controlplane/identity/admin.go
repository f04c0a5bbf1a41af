package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// GlobalSecrets with an authority each: the certificate's PEM followed by the key's (contract controlplane.md §2.6).
const (
	// EnvoyAdminCA secures the way from the control plane to the admin interfaces of Envoys.
	EnvoyAdminCA = "envoy-admin-ca"
	// InterCPCA secures the way between instances of one control plane.
	InterCPCA = "inter-cp-ca"
)

// adminClient is the name by which admin listeners know the control plane (contract controlplane.md §3.3).
const adminClient = "kuma-cp"

// EnsureAuthorities creates those of EnvoyAdminCA and InterCPCA that are not stored yet. They are ECDSA, which costs a
// start nothing; authorities that an earlier installation made with RSA work as well.
func EnsureAuthorities(ctx context.Context, st store.Store, now time.Time) error {
	for name, subject := range map[string]string{EnvoyAdminCA: "Envoy Admin CA", InterCPCA: "Inter CP CA"} {
		key := resource.Key{Kind: resource.KindGlobalSecret, Name: name}
		if _, err := st.Get(key); !errors.Is(err, store.ErrNotFound) {
			if err != nil {
				return fmt.Errorf("look for authority %s: %w", name, err)
			}
			continue
		}
		data, err := newAuthority(subject, now)
		if err != nil {
			return fmt.Errorf("make authority %s: %w", name, err)
		}
		_, err = st.Commit(ctx, store.Op{Action: store.Create, Resource: &resource.Resource{
			Meta: resource.Meta{Key: key}, Spec: &resource.GlobalSecret{Data: data},
		}})
		if err != nil && !errors.Is(err, store.ErrExists) {
			return fmt.Errorf("store authority %s: %w", name, err)
		}
	}
	return nil
}

func newAuthority(subject string, now time.Time) ([]byte, error) {
	key, err := certs.NewKey(certs.ECDSAP256)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(0), // as the meshes' authorities have it
		Subject:               pkix.Name{Organization: []string{"Kuma"}, OrganizationalUnit: []string{"Mesh"}, CommonName: subject},
		NotBefore:             now.Add(-10 * time.Second),
		NotAfter:              now.Add(certs.DefaultAuthorityLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	keyPEM, err := certs.EncodeKey(key)
	if err != nil {
		return nil, err
	}
	return append(certs.EncodeCertificates(leaf), keyPEM...), nil
}

// Admin secures the way to the admin interfaces of Envoys. It is safe for concurrent use.
//
// A server certificate is derived from the authority and the address, not drawn at random: the key by HKDF from the
// authority's key, serial and lifetime from the authority, the signature deterministically. So every start and every
// instance of a control plane makes the same bytes, and a proxy that connects again has nothing to be told; storing a
// pair for each proxy would cost a write for each. A derived key tells nothing about the authority's or another proxy's;
// who has the authority's key could sign what he likes anyway. An authority that is replaced in the store is used from
// the next start on, when all listeners are made anew.
type Admin struct {
	ca   *x509.Certificate
	key  crypto.Signer
	seed []byte
	pem  []byte

	mu    sync.Mutex
	pairs map[string]pair
}

type pair struct{ cert, key []byte }

// maxAdminPairs bounds what is remembered; beyond it, pairs are derived again.
const maxAdminPairs = 16 << 10

// LoadAdmin reads the authority EnvoyAdminCA, which EnsureAuthorities has made.
func LoadAdmin(st store.Reader) (*Admin, error) {
	r, err := st.Get(resource.Key{Kind: resource.KindGlobalSecret, Name: EnvoyAdminCA})
	if err != nil {
		return nil, fmt.Errorf("load authority of the admin interfaces: %w", err)
	}
	return newAdmin(resource.SpecOf[*resource.GlobalSecret](r).Data)
}

func newAdmin(data []byte) (*Admin, error) {
	if _, err := certs.LoadAuthority(data, data); err != nil { // checks that it can sign and that the key is its own
		return nil, fmt.Errorf("read global secret %s: %w", EnvoyAdminCA, err)
	}
	list, err := certs.ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("read global secret %s: %w", EnvoyAdminCA, err)
	}
	key, err := certs.ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("read global secret %s: %w", EnvoyAdminCA, err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("read global secret %s: %w", EnvoyAdminCA, err)
	}
	seed, err := hkdf.Extract(sha256.New, secret, list[0].Raw)
	if err != nil {
		return nil, fmt.Errorf("read global secret %s: %w", EnvoyAdminCA, err)
	}
	return &Admin{ca: list[0], key: key, seed: seed, pem: certs.EncodeCertificates(list[0]), pairs: map[string]pair{}}, nil
}

// CA returns the authority as PEM, by which both ends verify each other. It must not be changed.
func (a *Admin) CA() []byte { return a.pem }

// Server returns certificate and key, PEM, of the admin listener at an address, an IP or a name: the same ones each time.
// They must not be changed.
func (a *Admin) Server(address string) (certPEM, keyPEM []byte, err error) {
	a.mu.Lock()
	known, ok := a.pairs[address]
	a.mu.Unlock()
	if ok {
		return known.cert, known.key, nil
	}
	p, err := a.sign(address, x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate of the admin listener at %s: %w", address, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.pairs) >= maxAdminPairs {
		clear(a.pairs)
	}
	a.pairs[address] = p
	return p.cert, p.key, nil
}

// Client returns the TLS side of the control plane: it shows the certificate that admin listeners ask for, and verifies
// that the other end is the proxy of the address that is dialled.
func (a *Admin) Client() (*tls.Config, error) {
	p, err := a.sign(adminClient, x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, fmt.Errorf("make the control plane's certificate for admin listeners: %w", err)
	}
	cert, err := tls.X509KeyPair(p.cert, p.key)
	if err != nil {
		return nil, fmt.Errorf("make the control plane's certificate for admin listeners: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.ca)
	return &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// sign makes the pair of a host for one end of a connection. The use is part of what the key is derived from: the name
// kuma-cp as a proxy's address gives another pair, which is no client's.
func (a *Admin) sign(host string, use x509.ExtKeyUsage) (pair, error) {
	label := fmt.Sprintf("%d %s", use, host)
	key, err := a.derive("key " + label)
	if err != nil {
		return pair{}, err
	}
	serial, err := a.expand("serial "+label, 16)
	if err != nil {
		return pair{}, err
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive and never short
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		NotBefore:             a.ca.NotBefore,
		NotAfter:              a.ca.NotAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{use},
		BasicConstraintsValid: true,
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	// No source of randomness: the signature is then that of RFC 6979, or PKCS #1 v1.5, which has none.
	der, err := x509.CreateCertificate(nil, template, a.ca, key.Public(), a.key)
	if err != nil {
		return pair{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return pair{}, err
	}
	keyPEM, err := certs.EncodeKey(key)
	if err != nil {
		return pair{}, err
	}
	return pair{certs.EncodeCertificates(leaf), keyPEM}, nil
}

// derive makes a P-256 key: the first of the expansions that is below the order of the curve, which is nearly always the
// first one.
func (a *Admin) derive(label string) (*ecdsa.PrivateKey, error) {
	for n := range uint32(16) {
		raw, err := a.expand(string(binary.BigEndian.AppendUint32(nil, n))+label, 32)
		if err != nil {
			return nil, err
		}
		if key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw); err == nil {
			return key, nil
		}
	}
	return nil, errors.New("derive key: no candidate is on the curve")
}

func (a *Admin) expand(label string, size int) ([]byte, error) {
	return hkdf.Expand(sha256.New, a.seed, "kuma-dp admin "+label, size)
}
