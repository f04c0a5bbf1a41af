package identity

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/agent/workloadapi"
	"github.com/kuma-dp/kuma-dp/certs"
)

// SPIREConfig says which Workload API to ask.
type SPIREConfig struct {
	LocalConfig
	// Socket is the path of its unix socket.
	Socket string
}

// SPIRE takes the identity from a SPIFFE Workload API, as a SPIRE agent serves it. Its methods may be called concurrently.
type SPIRE struct {
	*local
	socket string
}

// NewSPIRE makes a SPIRE; Run starts it.
func NewSPIRE(cfg SPIREConfig) (*SPIRE, error) {
	l, err := newLocal(cfg.LocalConfig, Status{Source: FromSPIRE, Socket: cfg.Socket})
	if err != nil {
		return nil, err
	}
	if cfg.Socket == "" {
		return nil, errors.New("make identity source: a socket is needed")
	}
	return &SPIRE{local: l, socket: cfg.Socket}, nil
}

// longestOutage bounds the wait between attempts: the socket is on this host, and SPIRE's certificates live for minutes.
const longestOutage = 10 * time.Second

// Run takes each identity that SPIRE gives, newest first, and connects again when the stream ends. The identity in use stays
// until it expires. Run returns when ctx ends.
func (s *SPIRE) Run(ctx context.Context) error {
	wait := firstWait
	for ctx.Err() == nil {
		err := workloadapi.Watch(ctx, s.socket, func(r *workloadapi.X509Response) {
			wait = firstWait
			if err := s.take(r); err != nil {
				s.trouble(err)
			}
		})
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is no error
		}
		if status.Code(err) == codes.PermissionDenied {
			err = fmt.Errorf("%s: has SPIRE a registration entry for this process and user?", explain(err))
		}
		s.trouble(fmt.Errorf("ask the workload API on %s: %s", s.socket, explain(err)))
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
		wait = min(2*wait, longestOutage)
	}
	return nil
}

// take puts the identity of an answer to use that peers accept, or else the first: SPIRE lists them in the order of their
// entries and one workload may have several.
func (s *SPIRE) take(r *workloadapi.X509Response) error {
	if len(r.SVIDs) == 0 {
		return errors.New("the answer holds no identity")
	}
	var all []*SVID
	var ids []string
	for _, one := range r.SVIDs {
		v, err := parseSVID(one)
		if err != nil {
			return fmt.Errorf("identity %s: %w", one.ID, err)
		}
		all, ids = append(all, v), append(ids, one.ID)
	}
	i := slices.IndexFunc(all, func(v *SVID) bool { return len(objections(v.Leaf(), s.cfg.Mesh, s.cfg.Services)) == 0 })
	if i < 0 {
		i = slices.IndexFunc(all, func(v *SVID) bool { return v.Member(s.cfg.Mesh) })
	}
	i = max(i, 0)
	if err := s.offer(all[i]); err != nil {
		return fmt.Errorf("identity %s: %w", ids[i], err)
	}
	return nil
}

// parseSVID reads an identity whose parts belong to each other. Errors never quote the key.
func parseSVID(one workloadapi.SVID) (*SVID, error) {
	v := &SVID{}
	var err error
	if v.Chain, err = x509.ParseCertificates(one.Chain); err != nil || len(v.Chain) == 0 {
		return nil, fmt.Errorf("its chain holds no certificates: %w", orEmpty(err))
	}
	if v.Authorities, err = x509.ParseCertificates(one.Bundle); err != nil || len(v.Authorities) == 0 {
		return nil, fmt.Errorf("its bundle holds no certificates: %w", orEmpty(err))
	}
	key, err := x509.ParsePKCS8PrivateKey(one.Key)
	if err != nil {
		return nil, errors.New("its key does not parse")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("its key is a %T, which cannot sign", key)
	}
	v.Key = signer
	if !certs.SamePublicKey(v.Leaf().PublicKey, signer.Public()) {
		return nil, errors.New("its key does not belong to its certificate")
	}
	return v, nil
}

// orEmpty is the reason why there is nothing.
func orEmpty(err error) error {
	if err == nil {
		return errors.New("it is empty")
	}
	return err
}
