package resource_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/resource"
)

// pair makes a certificate and its key in PEM.
func pair(t *testing.T, isCA bool, usage x509.KeyUsage) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: isCA, BasicConstraintsValid: true, KeyUsage: usage}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return block("CERTIFICATE", der), block("PRIVATE KEY", pkcs8)
}

func TestProvidedAuthority(t *testing.T) {
	const field = "mtls.backends[0].conf.cert: "
	good, goodKey := pair(t, true, x509.KeyUsageCertSign)
	leaf, leafKey := pair(t, false, x509.KeyUsageDigitalSignature)
	agrees, agreesKey := pair(t, true, x509.KeyUsageCertSign|x509.KeyUsageKeyAgreement)
	for _, tt := range []struct {
		name, cert, key string
		skip            bool
		want            []string
	}{
		{name: "authority", cert: good, key: goodKey},
		{name: "a chain", cert: good + leaf, key: goodKey},
		{name: "key of another", cert: good, key: leafKey, want: []string{field + "not a valid TLS key pair: tls: private key does not match public key"}},
		{name: "skipped", cert: good, key: leafKey, skip: true},
		{name: "no PEM", cert: "a", key: "b", want: []string{field + "not a valid TLS key pair: tls: failed to find any PEM data in certificate input"}},
		{name: "leaf", cert: leaf, key: leafKey, want: []string{
			field + "basic constraint 'CA' must be set to 'true' (see X509-SVID: 4.1. Basic Constraints)",
			field + "key usage extension 'keyCertSign' must be set (see X509-SVID: 4.3. Key Usage)",
		}},
		{name: "key agreement", cert: agrees, key: agreesKey, want: []string{
			field + "key usage extension 'keyAgreement' must NOT be set (see X509-SVID: Appendix A. X.509 Field Reference)",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			body := fmt.Sprintf(`{"type":"Mesh","name":"m","mtls":{"skipValidation":%t,"backends":[{"name":"a","type":"provided","conf":{"cert":{"inlineString":%q},"key":{"inlineString":%q}}}]}}`,
				tt.skip, tt.cert, tt.key)
			r, err := registry().Decode([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			faults := texts(resource.Validate(r))
			if diff := cmp.Diff(tt.want, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if strings.Contains(strings.Join(faults, ""), "PRIVATE KEY") {
				t.Error("a fault shows the key")
			}
		})
	}
}
