package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

func newCertificateCommand(a *app) *cobra.Command {
	var kind, keyType, keyFile, certFile string
	var hosts []string
	cmd := &cobra.Command{
		Use: "tls-certificate", Short: "Generate a self-signed certificate for the control plane or a client of it",
		Example: "  kumactl generate tls-certificate --type server --hostname localhost --hostname cp.example\n" +
			"  kumactl generate tls-certificate --type client --key-file client.key --cert-file client.crt",
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case kind != "server" && kind != "client":
				return usage(cmd, fmt.Sprintf("--type %q is none of client, server", kind))
			case kind == "server" && len(hosts) == 0:
				return usage(cmd, "--type server needs --hostname")
			case slices.Contains(hosts, ""):
				return usage(cmd, "--hostname is empty")
			case keyType != "rsa" && keyType != "ecdsa":
				return usage(cmd, fmt.Sprintf("--key-type %q is none of rsa, ecdsa", keyType))
			case keyFile == certFile && keyFile != "-":
				return usage(cmd, "--key-file and --cert-file must differ")
			}
			key, cert, err := selfSigned(kind, keyType, hosts, time.Now())
			if err != nil {
				return fmt.Errorf("generate certificate: %w", err)
			}
			if err := a.save(keyFile, key, 0o600, "Private key"); err != nil {
				return err
			}
			return a.save(certFile, cert, 0o644, "Certificate")
		},
	}
	f := cmd.Flags()
	f.StringVar(&kind, "type", "", "whom it is for: one of client|server; required")
	f.StringVar(&keyType, "key-type", "rsa", "type of the key: one of rsa|ecdsa")
	f.StringSliceVar(&hosts, "hostname", nil, "name or address that it is for; may be repeated; a server needs one")
	f.StringSliceVar(&hosts, "cp-hostname", nil, "name that it is for")
	_ = f.MarkDeprecated("cp-hostname", "use --hostname") // cannot fail: the flag is there
	f.StringVar(&keyFile, "key-file", "key.pem", "file for the private key, or - for the standard output")
	f.StringVar(&certFile, "cert-file", "cert.pem", "file for the certificate, or - for the standard output")
	return cmd
}

// save writes one half of the pair and says so.
func (a *app) save(file string, text []byte, mode os.FileMode, what string) error {
	if file == "-" {
		_, err := a.stdout.Write(text)
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	// A file that was there keeps its mode otherwise.
	err = f.Chmod(mode)
	if err == nil {
		_, err = f.Write(text)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	_, err = fmt.Fprintf(a.stdout, "%s saved in %s\n", what, file)
	return err
}

// selfSigned makes a certificate that is its own authority, as the control plane's own is (contract controlplane.md
// §1.2).
func selfSigned(kind, keyType string, hosts []string, now time.Time) (keyPEM, certPEM []byte, err error) {
	var key crypto.Signer
	var block pem.Block
	if keyType == "ecdsa" {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, nil, err
		}
		der, err := x509.MarshalECPrivateKey(k)
		if err != nil {
			return nil, nil, err
		}
		key, block = k, pem.Block{Type: "EC PRIVATE KEY", Bytes: der}
	} else {
		k, err := rsa.GenerateKey(rand.Reader, signingKeyBits)
		if err != nil {
			return nil, nil, err
		}
		key, block = k, pem.Block{Type: pemPrivate, Bytes: x509.MarshalPKCS1PrivateKey(k)}
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: now.Add(-backdating), NotAfter: now.Add(defaultLifetime),
		KeyUsage:              x509.KeyUsageKeyEncipherment | x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		BasicConstraintsValid: true, IsCA: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if kind == "server" {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
	if len(hosts) > 0 {
		template.Subject = pkix.Name{CommonName: hosts[0]}
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&block), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
