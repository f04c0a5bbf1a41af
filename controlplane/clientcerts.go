package controlplane

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// clientCerts adds the authorities of client certificates to the API's TLS, if there are any.
func (c *Config) clientCerts(into *tls.Config) error {
	https := &c.APIServer.HTTPS
	var files []string
	if https.TLSCAFile != "" {
		files = append(files, https.TLSCAFile)
	}
	if dir := c.APIServer.Auth.ClientCertsDir; dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("read authorities of client certificates: %w", err)
		}
		for _, e := range entries {
			if slices.Contains([]string{".pem", ".crt"}, filepath.Ext(e.Name())) {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
		if len(files) == 0 {
			return fmt.Errorf("read authorities of client certificates: %s holds no *.pem or *.crt", dir)
		}
	}
	if len(files) == 0 {
		return nil
	}
	into.ClientCAs = x509.NewCertPool()
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("read authorities of client certificates: %w", err)
		}
		if !into.ClientCAs.AppendCertsFromPEM(text) {
			return fmt.Errorf("read authorities of client certificates: %s holds no certificate in PEM", f)
		}
	}
	into.ClientAuth = tls.VerifyClientCertIfGiven
	if https.RequireClientCert {
		into.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return nil
}
