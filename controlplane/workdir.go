package controlplane

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/kuma-dp/kuma-dp/certs"
)

// Files of the work directory.
const (
	certFile  = "kuma-cp.crt"
	keyFile   = "kuma-cp.key"
	storeFile = "kuma-cp.db"
)

// prepareWorkDir makes the directory of the control plane's secrets, for its owner alone.
func prepareWorkDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make work directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at work directory: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a folder needs its x
		return fmt.Errorf("others can read the work directory %s, and it cannot be changed: %w", dir, err)
	}
	return nil
}

// keyPair is a server's certificate with its PEM, which agents get to verify us.
type keyPair struct {
	tls.Certificate
	pem []byte
}

// loadPair reads a pair from files.
func loadPair(certPath, keyPath string) (*keyPair, error) {
	certPEM, err := os.ReadFile(certPath)
	if err != nil {
		return nil, fmt.Errorf("read server certificate: %w", err)
	}
	keyPEM, err := os.ReadFile(keyPath)
	if err != nil {
		return nil, fmt.Errorf("read server key: %w", err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("use server certificate %s with key %s: %w", certPath, keyPath, err)
	}
	return &keyPair{pair, certPEM}, nil
}

// ownPair makes the pair of the work directory when it is not there: agents keep trusting it over restarts.
func ownPair(certPath, keyPath string, now time.Time) error {
	_, certErr := os.Stat(certPath)
	_, keyErr := os.Stat(keyPath)
	switch {
	case certErr == nil && keyErr == nil:
		return nil
	case certErr == nil && errors.Is(keyErr, fs.ErrNotExist):
		return fmt.Errorf("server certificate %s has no key %s: restore the key, or remove the certificate to have a new pair made", certPath, keyPath)
	}
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "" // the certificate then lacks one of several names
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list addresses for the server certificate: %w", err)
	}
	certPEM, keyPEM, err := certs.ServerPair(certs.LocalHosts(hostname, addrs), now)
	if err != nil {
		return err
	}
	// The key first: a crash in between leaves a key without certificate, which is made again.
	if err := writeFile(keyPath, keyPEM, 0o600); err != nil {
		return err
	}
	return writeFile(certPath, certPEM, 0o644)
}

// writeFile replaces a file in one step, so that no crash leaves half of it. The file never has more rights than mode.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // 0600, exclusive
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
