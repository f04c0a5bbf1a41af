package identity

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/internal/filewatch"
)

// FilesConfig says which files hold the identity.
type FilesConfig struct {
	LocalConfig
	// CertFile is the leaf and its intermediates, KeyFile its key, PEM.
	CertFile, KeyFile string
	// CAFile has the authorities that verify the leaf; "" means those of the mesh.
	CAFile string
}

// Files takes the identity from files that somebody else keeps fresh, such as cert-manager. It reads them again when they
// change, in whichever way. Its methods may be called concurrently.
type Files struct {
	*local
	cfg   FilesConfig
	open  bool              // the key can be read by others: told
	last  *x509.Certificate // told to end soon
	dirty chan struct{}
}

// NewFiles makes a Files; Run starts it.
func NewFiles(cfg FilesConfig) (*Files, error) {
	l, err := newLocal(cfg.LocalConfig, Status{Source: FromFiles, CertFile: cfg.CertFile, KeyFile: cfg.KeyFile, CAFile: cfg.CAFile})
	if err != nil {
		return nil, err
	}
	if cfg.CertFile == "" || cfg.KeyFile == "" {
		return nil, errors.New("make identity source: a certificate and a key file are needed")
	}
	return &Files{local: l, cfg: cfg, dirty: make(chan struct{}, 1)}, nil
}

// unwatched is how often files are read that the kernel does not watch for us.
const unwatched = 30 * time.Second

// Run reads the files at once and whenever they change. It returns when ctx ends.
func (f *Files) Run(ctx context.Context) error {
	files := []string{f.cfg.CertFile, f.cfg.KeyFile}
	if f.cfg.CAFile != "" {
		files = append(files, f.cfg.CAFile)
	}
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lost := make(chan error, 1)
	watching.Go(func() { lost <- filewatch.Watch(ctx, files, func() { put(f.dirty) }) })
	var poll <-chan time.Time
	for {
		again := f.read()
		select {
		case <-ctx.Done():
			return nil
		case <-f.dirty:
		case <-f.local.trust:
		case <-again:
		case <-poll:
		case err := <-lost:
			if ctx.Err() != nil {
				return nil
			}
			f.local.cfg.Log.Warn("identity files are not watched: they are read again every half minute", "reason", err.Error())
			ticker := time.NewTicker(unwatched)
			defer ticker.Stop()
			poll, lost = ticker.C, nil
		}
	}
}

// read takes what the files hold. It returns a channel that receives when time alone may have changed what came of it.
func (f *Files) read() (again <-chan time.Time) {
	v, err := f.load()
	if err == nil {
		if err = f.offer(v); err == nil {
			return f.ending(v)
		}
		err = fmt.Errorf("certificate in %s: %w", f.cfg.CertFile, err)
		if early := v.Leaf().NotBefore.Sub(f.local.cfg.Clock.Now()); early > 0 {
			again = time.After(min(early+time.Second, time.Minute))
		}
	}
	f.trouble(err)
	return again
}

// load reads the files into an identity whose parts belong to each other.
func (f *Files) load() (*SVID, error) {
	chainPEM, _, err := readFile(f.cfg.CertFile)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	keyPEM, mode, err := readFile(f.cfg.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("key: %w", err)
	}
	f.judge(mode)
	v := &SVID{}
	if v.Chain, err = certs.ParseCertificates(chainPEM); err != nil {
		return nil, fmt.Errorf("certificate in %s: %w", f.cfg.CertFile, err)
	}
	if v.Key, err = certs.ParseKey(keyPEM); err != nil {
		return nil, fmt.Errorf("key in %s: %w", f.cfg.KeyFile, err)
	}
	if !certs.SamePublicKey(v.Leaf().PublicKey, v.Key.Public()) {
		return nil, fmt.Errorf("the key in %s does not belong to the certificate in %s: waiting for the other half of the pair", f.cfg.KeyFile, f.cfg.CertFile)
	}
	if f.cfg.CAFile == "" {
		return v, nil
	}
	caPEM, _, err := readFile(f.cfg.CAFile)
	if err != nil {
		return nil, fmt.Errorf("authorities: %w", err)
	}
	if v.Authorities, err = certs.ParseCertificates(caPEM); err != nil {
		return nil, fmt.Errorf("authorities in %s: %w", f.cfg.CAFile, err)
	}
	return v, nil
}

// judge tells once of a key that every user of the host can read.
func (f *Files) judge(mode fs.FileMode) {
	open := mode.Perm()&0o004 != 0
	if open && !f.open {
		f.local.cfg.Log.Warn("every user of this host can read the workload's key: take the right away with chmod o-r", "file", f.cfg.KeyFile, "mode", mode.Perm().String())
	}
	f.open = open
}

// ending tells when the certificate in use has less than a tenth of its life left, for whoever should have replaced it.
func (f *Files) ending(v *SVID) (again <-chan time.Time) {
	leaf := v.Leaf()
	left := leaf.NotAfter.Sub(f.local.cfg.Clock.Now())
	if tenth := leaf.NotAfter.Sub(leaf.NotBefore) / 10; left > tenth {
		return time.After(min(left-tenth+time.Second, time.Hour))
	}
	err := fmt.Errorf("the certificate in %s ends at %s and has not been replaced: check what renews it", f.cfg.CertFile, leaf.NotAfter.UTC().Format(time.RFC3339))
	f.update(func(st *Status) { st.LastError = err.Error() })
	if f.last == nil || !f.last.Equal(leaf) {
		f.local.cfg.Log.Warn("workload certificate ends soon", "reason", err.Error())
	}
	f.last = leaf
	return nil
}
