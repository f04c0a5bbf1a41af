package certs

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// Verify checks a workload's chain, leaf first, against a trust bundle (both PEM) at a moment, and returns the leaf. When
// key is not nil the leaf must belong to it.
func Verify(chainPEM, bundlePEM []byte, key crypto.Signer, now time.Time) (*x509.Certificate, error) {
	chain, err := ParseCertificates(chainPEM)
	if err != nil {
		return nil, fmt.Errorf("verify chain: %w", err)
	}
	bundle, err := ParseCertificates(bundlePEM)
	if err != nil {
		return nil, fmt.Errorf("verify chain: trust bundle: %w", err)
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	for _, c := range bundle {
		roots.AddCert(c)
	}
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	leaf := chain[0]
	if leaf.IsCA {
		return nil, errors.New("verify chain: the first certificate is an authority, not a leaf")
	}
	if key != nil && !SamePublicKey(leaf.PublicKey, key.Public()) {
		return nil, errors.New("verify chain: the leaf does not belong to our key")
	}
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}); err != nil {
		return nil, fmt.Errorf("verify chain: %w", err)
	}
	return leaf, nil
}

// renewJitter spreads renewals of proxies that started together: a tenth of the waiting time to either side.
const renewJitter = 0.1

// RenewAt says when to renew a certificate that was issued now: at half of what is left of its life, moved by up to a tenth
// of that to either side. It does not count from NotBefore, which is back-dated by more than a short life. Random is in [0,1),
// from the caller, so that the schedule is a function of its arguments (contract controlplane.md §5.5).
func RenewAt(now, notAfter time.Time, random float64) time.Time {
	half := float64(notAfter.Sub(now)) / 2
	return now.Add(time.Duration(half * (1 + renewJitter*(2*random-1))))
}
