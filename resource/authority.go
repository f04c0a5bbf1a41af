package resource

import (
	"crypto/tls"
	"crypto/x509"
)

// validateAuthority tells why a pair in PEM cannot sign workload certificates (contract controlplane.md §5.1; the rules
// are those of SPIFFE for X.509). Only what the mesh itself holds is seen here: secrets and files are read, and checked,
// where the authority is loaded.
func validateAuthority(f *Faults, p Path, cert, key []byte) {
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		f.Add(p, "not a valid TLS key pair: "+err.Error())
		return
	}
	ca, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		f.Add(p, "not a valid x509 certificate: "+err.Error())
		return
	}
	if !ca.IsCA {
		f.Add(p, "basic constraint 'CA' must be set to 'true' (see X509-SVID: 4.1. Basic Constraints)")
	}
	if ca.KeyUsage&x509.KeyUsageCertSign == 0 {
		f.Add(p, "key usage extension 'keyCertSign' must be set (see X509-SVID: 4.3. Key Usage)")
	}
	if ca.KeyUsage&x509.KeyUsageKeyAgreement != 0 {
		f.Add(p, "key usage extension 'keyAgreement' must NOT be set (see X509-SVID: Appendix A. X.509 Field Reference)")
	}
}

// inMesh returns the bytes of a source that are in the mesh itself, nil for a secret and a file.
func (d *DataSource) inMesh() []byte {
	if d.InlineString != "" {
		return []byte(d.InlineString)
	}
	return d.Inline
}
