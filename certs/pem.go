package certs

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// MaxPEM bounds every PEM text that we read, in bytes: a bundle of several hundred certificates.
const MaxPEM = 1 << 20

var errNoBlock = errors.New("no PEM block of the expected type")

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// firstBlock returns the first block whose type is one of kinds.
func firstBlock(text []byte, kinds ...string) (*pem.Block, error) {
	if len(text) > MaxPEM {
		return nil, fmt.Errorf("PEM text of %d bytes is longer than %d", len(text), MaxPEM)
	}
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return nil, errNoBlock
		}
		if slices.Contains(kinds, block.Type) {
			return block, nil
		}
	}
}

// EncodeCertificates renders certificates as PEM, in the order given.
func EncodeCertificates(list ...*x509.Certificate) []byte {
	var out bytes.Buffer
	for _, c := range list {
		out.Write(encodePEM("CERTIFICATE", c.Raw))
	}
	return out.Bytes()
}

// Union returns the certificates of a, then those of b that are not among them.
func Union(a, b []*x509.Certificate) []*x509.Certificate {
	out := slices.Clone(a)
	for _, c := range b {
		if !slices.ContainsFunc(out, c.Equal) {
			out = append(out, c)
		}
	}
	return out
}

// ParseCertificates reads all certificates of a PEM text; blocks of other types are skipped. None at all is an error.
func ParseCertificates(text []byte) ([]*x509.Certificate, error) {
	if len(text) > MaxPEM {
		return nil, fmt.Errorf("read certificates: PEM text of %d bytes is longer than %d", len(text), MaxPEM)
	}
	var out []*x509.Certificate
	for {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("read certificate %d: %w", len(out)+1, err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read certificates: %w", errNoBlock)
	}
	return out, nil
}
