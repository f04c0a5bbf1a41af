package mtls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"
)

// alpn is what Envoys of a mesh say to each other (contract policies.md §5).
const alpn = "kuma"

const (
	dialTimeout = 2 * time.Second
	// patience is how long somebody may keep silent who then counts as content: in clear there is no sign of it.
	patience = time.Second
	// maxChecked bounds the endpoints of a cluster that are tried.
	maxChecked = 10
)

// Target is a cluster to be tried.
type Target struct {
	Cluster string
	SNI     string
	// Identities are the SPIFFE IDs of which one must answer; one that ends with a slash is the beginning of any.
	Identities []string
	Endpoints  []netip.AddrPort
}

// Credentials are those of the workload, PEM.
type Credentials struct{ Chain, Key, Roots []byte }

// CheckedEndpoint is what one endpoint does.
type CheckedEndpoint struct {
	Cluster string         `json:"cluster"`
	Address netip.AddrPort `json:"address"`
	// Verdict is enforced, permissive, not mTLS, or refused, and Why says it in words.
	Verdict  string    `json:"verdict"`
	Why      string    `json:"why"`
	Attempts []Attempt `json:"attempts,omitempty"`
}

// Attempt is one connection.
type Attempt struct {
	How string `json:"how"`
	// Accepted: the other side let the connection in. Whether a request would be permitted is not tried.
	Accepted bool   `json:"accepted"`
	What     string `json:"what"`
	// TLS is the version, and Peer are the URI names of the other side's certificate.
	TLS  string   `json:"tls,omitempty"`
	Peer []string `json:"peer,omitempty"`
}

// How a connection is tried.
const (
	withIdentity = "with the workload's identity"
	inClear      = "in clear"
	withNothing  = "TLS without a certificate"
	withForeign  = "TLS with a foreign certificate"
)

// Check connects to the endpoints of clusters in four ways at a time. The own host's endpoints are not tried: from there,
// kuma-dp reaches the workload and not its proxy. No request is made; in clear, empty lines are sent.
func Check(ctx context.Context, targets []Target, c Credentials) ([]CheckedEndpoint, error) {
	return check(ctx, targets, c, localAddresses())
}

func check(ctx context.Context, targets []Target, c Credentials, local map[netip.Addr]bool) ([]CheckedEndpoint, error) {
	own, err := tls.X509KeyPair(c.Chain, c.Key)
	if err != nil {
		return nil, fmt.Errorf("check mTLS: the workload has no identity yet: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(c.Roots) {
		return nil, errors.New("check mTLS: the workload has not been told yet whom to trust")
	}
	foreign, err := foreignLike(own.Leaf)
	if err != nil {
		return nil, fmt.Errorf("check mTLS: make a foreign certificate: %w", err)
	}
	var out []CheckedEndpoint
	var wg sync.WaitGroup
	for _, t := range targets {
		for i, address := range t.Endpoints {
			one := CheckedEndpoint{Cluster: t.Cluster, Address: address}
			switch {
			case local[address.Addr()]:
				one.Verdict, one.Why = "not tried", "it is on this host, where kuma-dp would reach the workload and not its proxy: try it from another one"
			case i >= maxChecked:
				one.Verdict, one.Why = "not tried", fmt.Sprintf("only the first %d endpoints are", maxChecked)
			default:
				one.Attempts = []Attempt{{How: withIdentity}, {How: inClear}, {How: withNothing}, {How: withForeign}}
			}
			out = append(out, one)
		}
	}
	n := 0
	for _, t := range targets {
		for range t.Endpoints {
			for i := range out[n].Attempts {
				a, address := &out[n].Attempts[i], out[n].Address.String()
				wg.Go(func() {
					conf := &tls.Config{ServerName: t.SNI, NextProtos: []string{alpn}, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} //nolint:gosec // who answers is verified below
					switch a.How {
					case inClear:
						conf = nil
					case withIdentity:
						conf.Certificates = []tls.Certificate{own}
						conf.VerifyConnection = func(s tls.ConnectionState) error { return verify(s, roots, t.Identities) }
					case withForeign:
						conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return foreign, nil }
					}
					a.try(ctx, address, conf)
				})
			}
			n++
		}
	}
	wg.Wait()
	for i := range out {
		if len(out[i].Attempts) > 0 {
			out[i].judge()
		}
	}
	return out, nil
}

func (c *CheckedEndpoint) judge() {
	got := map[string]*Attempt{}
	for i := range c.Attempts {
		got[c.Attempts[i].How] = &c.Attempts[i]
	}
	switch id := got[withIdentity]; {
	case !id.Accepted && got[inClear].Accepted:
		c.Verdict, c.Why = "not mTLS", "it takes connections in clear, and not those with the workload's identity: "+id.What
	case !id.Accepted:
		c.Verdict, c.Why = "refused", "it does not take the workload's identity: "+id.What
	case got[withNothing].Accepted || got[withForeign].Accepted:
		c.Verdict, c.Why = "not verified", "it ends TLS without asking who connects"
	case got[inClear].Accepted:
		c.Verdict, c.Why = "permissive", "it takes connections with the workload's identity, and those in clear too"
	default:
		c.Verdict, c.Why = "enforced", "it takes connections with an identity of the mesh only"
	}
}

// try connects; conf is nil for a connection in clear.
func (a *Attempt) try(ctx context.Context, address string, conf *tls.Config) {
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, "tcp", address)
	if err != nil {
		a.What = err.Error()
		return
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		a.What = err.Error()
		return
	}
	if conf == nil {
		a.clear(conn)
		return
	}
	secure := tls.Client(conn, conf)
	if err := secure.HandshakeContext(ctx); err != nil {
		a.What = "the handshake failed: " + err.Error()
		return
	}
	state := secure.ConnectionState()
	a.TLS = tls.VersionName(state.Version)
	for _, u := range state.PeerCertificates[0].URIs {
		a.Peer = append(a.Peer, u.String())
	}
	// The server of TLS 1.3 judges a certificate after the client is done.
	_ = conn.SetReadDeadline(time.Now().Add(patience)) // a connection has deadlines
	switch _, err := secure.Read(make([]byte, 1)); {
	case err == nil:
		a.Accepted, a.What = true, "it talks"
	case silent(err):
		a.Accepted, a.What = true, "the handshake is done, and the connection stays open"
	default:
		a.What = "the connection was closed: " + err.Error()
	}
}

// silent tells whether a read has ended for want of an answer.
func silent(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// clear sends empty lines, which no protocol takes for a request, and enough of them for a server of TLS to see that they are
// none.
func (a *Attempt) clear(conn net.Conn) {
	if _, err := conn.Write([]byte("\r\n\r\n\r\n\r\n")); err != nil {
		a.What = err.Error()
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience)) // a connection has deadlines
	first := make([]byte, 1)
	_, err := conn.Read(first)
	const alert = 21 // RFC 8446 §5.1
	switch {
	case err != nil && silent(err):
		a.Accepted, a.What = true, "the connection stays open"
	case err != nil:
		a.What = "the connection was closed: " + err.Error()
	case first[0] == alert:
		a.What = "it answers with an alert of TLS"
	default:
		a.Accepted, a.What = true, "it answers in clear"
	}
}

// verify holds the other side to an authority of the mesh and to one of the identities.
func verify(s tls.ConnectionState, roots *x509.CertPool, identities []string) error {
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	leaf := s.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return err
	}
	for _, u := range leaf.URIs {
		for _, id := range identities {
			if u.String() == id || strings.HasSuffix(id, "/") && strings.HasPrefix(u.String(), id) {
				return nil
			}
		}
	}
	return fmt.Errorf("its certificate names %v, and not one of %v", leaf.URIs, identities)
}

// foreignLike makes a certificate with the names of another, which nobody else has signed.
func foreignLike(leaf *x509.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), URIs: append([]*url.URL{}, leaf.URIs...), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		KeyUsage: leaf.KeyUsage, ExtKeyUsage: leaf.ExtKeyUsage, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func localAddresses() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	list, err := net.InterfaceAddrs()
	if err != nil {
		return out // then all are tried
	}
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out[p.Addr().Unmap()] = true
		}
	}
	return out
}
