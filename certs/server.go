package certs

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"time"
)

// ServerPair makes the self-signed pair of a control plane (contract controlplane.md §1.2): CA:TRUE, so that it can be
// handed to clients as the authority to trust, ten years, empty subject. The key is ECDSA P-256: Kuma's RSA costs every
// connecting proxy thirty times the work. Hosts are DNS names and IP addresses; see LocalHosts.
func ServerPair(hosts []string, now time.Time) (certPEM, keyPEM []byte, err error) {
	key, err := NewKey(ECDSAP256)
	if err != nil {
		return nil, nil, fmt.Errorf("make server key: %w", err)
	}
	serial, err := randomSerial()
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(DefaultAuthorityLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if h != "" {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign server certificate: %w", err)
	}
	keyPEM, err = EncodeKey(key)
	return encodePEM("CERTIFICATE", der), keyPEM, err
}

// LocalHosts returns what a server on this machine may be called: hostname, localhost, the loopback addresses and every
// address of an interface. A machine with only a loopback interface is fine. Link-local addresses are left out: they
// need a zone, which no certificate can carry.
func LocalHosts(hostname string, addrs []net.Addr) []string {
	out := []string{"localhost", "127.0.0.1", "::1"}
	if hostname != "" {
		out = append(out, hostname)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLinkLocalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
