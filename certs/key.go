package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
)

// KeyType is a kind of private key.
type KeyType string

// Key types. Proxies of either kind verify each other. ECDSA is the default wherever we choose; RSA is what Kuma 2.9 uses.
const (
	ECDSAP256 KeyType = "ecdsa-p256"
	RSA2048   KeyType = "rsa-2048"
)

// Bounds of RSA moduli that we make or accept: below is weak, above lets a request burn our processor.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// NewKey makes a private key; the zero KeyType means ECDSAP256.
func NewKey(t KeyType) (crypto.Signer, error) {
	switch t {
	case ECDSAP256, "":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	}
	return nil, fmt.Errorf("make key: unknown key type %q, use %s or %s", t, ECDSAP256, RSA2048)
}

// checkPublicKey refuses keys that are too weak to certify or too costly to verify.
func checkPublicKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return fmt.Errorf("elliptic curve %s is not supported, use P-256", k.Curve.Params().Name)
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return fmt.Errorf("rsa key of %d bits is outside %d..%d", n, minRSABits, maxRSABits)
		}
		return nil
	}
	return fmt.Errorf("public key of type %T is not supported, use ECDSA P-256 or RSA 2048", pub)
}

// SamePublicKey tells whether two public keys are equal.
func SamePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// EncodeKey renders a private key as PEM: PKCS#1 for RSA as Kuma stores it, SEC 1 for ECDSA, else PKCS#8.
func EncodeKey(key crypto.Signer) ([]byte, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return encodePEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k)), nil
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			return nil, fmt.Errorf("encode key: %w", err)
		}
		return encodePEM("EC PRIVATE KEY", der), nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return encodePEM("PRIVATE KEY", der), nil
}

// ParseKey reads the first private key of a PEM text: PKCS#1, SEC 1 or PKCS#8. Errors never quote the text.
func ParseKey(text []byte) (crypto.Signer, error) {
	block, err := firstBlock(text, "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY")
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	var key any
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, fmt.Errorf("read private key: %s block does not parse", block.Type)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("read private key: a %T cannot sign", key)
	}
	return signer, nil
}
