package identity

import (
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kuma-dp/kuma-dp/agent/authn"
	"github.com/kuma-dp/kuma-dp/agent/clock"
	"github.com/kuma-dp/kuma-dp/certs"
)

const (
	callTimeout = 15 * time.Second // the control plane itself waits up to 5 s for the Dataplane to be registered
	firstWait   = 300 * time.Millisecond
	longestWait = time.Minute
	refusedWait = 5 * time.Second // after a refused credential
	crowdedWait = 3 * time.Second // at most, when we have asked too often: there is one every six seconds
)

// Config says what a Source needs.
type Config struct {
	// Conn is the connection to the control plane.
	Conn grpc.ClientConnInterface
	// Token gives the credential, read anew for each call; nil or "" sends none.
	Token func() (string, error)
	// Node is <mesh>.<name>.
	Node string
	// Issued gets each new identity.
	Issued func(*SVID)
	// Application asks for a certificate for an application beside the proxy: with the SPIFFE ID and no other name.
	Application bool
	// Refused, if not nil, gets the reason each time that no certificate was issued, but not when Unsupported is called.
	Refused func(reason string)
	// Unsupported is called when the control plane implements no such service, as a Kuma 2.9 one.
	Unsupported func()
	// KeyType of new keys; default ECDSA P-256. Each certificate gets a key of its own.
	KeyType certs.KeyType
	// Clock is set by each answer, and certificates are judged by it; nil takes the local one.
	Clock *clock.Clock
	// Log is told of new certificates and of trouble; nil is silent.
	Log *slog.Logger
}

// Source keeps one workload's certificate fresh. Its methods may be called concurrently.
type Source struct {
	cfg  Config
	log  *slog.Logger
	kick chan struct{}
	back chan struct{} // holds a token when the control plane can be reached again
	turn chan struct{} // holds a token when another authority signs

	mu     sync.Mutex
	status Status
	leaf   *x509.Certificate // nil before the first
	signer *x509.Certificate // nil while it is not known
}

// New makes a Source; Run starts it.
func New(cfg Config) (*Source, error) {
	if cfg.Conn == nil || cfg.Node == "" || cfg.Issued == nil || cfg.Unsupported == nil {
		return nil, errors.New("make identity source: connection, node and both callbacks are needed")
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.New(nil, log)
	}
	return &Source{
		cfg: cfg, log: log, kick: make(chan struct{}, 1), back: make(chan struct{}, 1), turn: make(chan struct{}, 1),
		status: Status{Source: FromControlPlane, State: Pending, KeyType: string(cmp.Or(cfg.KeyType, certs.ECDSAP256))},
	}, nil
}

// Status returns a snapshot.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Wanted says that Envoy asks for the certificate: if there is none, it is tried for again now. It does not block.
func (s *Source) Wanted() { put(s.kick) }

// Reconnected says that the control plane can be reached again: a certificate that is due is tried for now. It does not block.
func (s *Source) Reconnected() { put(s.back) }

// put leaves a token, unless there is one.
func put(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Signer takes the authorities that Envoy trusts, PEM, of which the first signs, and tells whether the certificate is of it.
// If not, another one is asked for now. It does not block.
func (s *Source) Signer(bundle []byte) (current bool) {
	list, err := certs.ParseCertificates(bundle)
	if err != nil {
		return true // Envoy will say so
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signer = list[0]
	if s.current() {
		return true
	}
	put(s.turn)
	return false
}

// current tells whether the certificate is of the authority that signs. The caller holds the lock.
func (s *Source) current() bool {
	return s.signer == nil || s.leaf != nil && s.leaf.CheckSignatureFrom(s.signer) == nil
}

func (s *Source) update(f func(*Status)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.status)
}

// Run gets the certificate at once, and a new one at half of its life or when another authority signs. It returns when ctx ends.
func (s *Source) Run(ctx context.Context) error {
	wait := firstWait
	wanted := false
	told, expired := "", false
	for ctx.Err() == nil {
		svid, err := s.issue(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is no error
		}
		if err == nil {
			now, leaf := s.cfg.Clock.Now(), svid.Leaf()
			renew := certs.RenewAt(now, leaf.NotAfter, rand.Float64())
			current := s.took(svid, renew)
			s.cfg.Issued(svid)
			s.log.Info("workload certificate issued", "uris", strings.Join(s.Status().URIs, ","), "not_after", leaf.NotAfter, "renew_at", renew.Round(time.Second))
			wanted, told, expired = false, "", false
			if current {
				wait = firstWait
				s.cfg.Clock.Until(ctx, renew, s.turn)
			} else { // signed while the authority changed; a control plane that keeps to the other one is not asked in a loop
				s.cfg.Clock.Until(ctx, now.Add(wait/2+rand.N(wait)), nil)
				wait = min(2*wait, longestWait)
			}
			continue
		}
		text := explain(err)
		switch status.Code(err) {
		case codes.Unimplemented:
			s.log.Info("control plane issues no certificates by request: it makes the key and sends it")
			s.update(func(st *Status) { *st = Status{Source: FromControlPlane, State: ControlPlane} })
			s.cfg.Unsupported()
			<-ctx.Done()
			return nil
		case codes.FailedPrecondition:
			s.update(func(st *Status) {
				*st = Status{Source: FromControlPlane, State: NoMTLS, KeyType: st.KeyType, LastError: text}
			})
			if !wanted {
				s.refused(text)
				select {
				case <-s.kick:
					wanted = true
				case <-ctx.Done():
				}
				continue
			}
		}
		s.update(func(st *Status) { st.LastError = text })
		s.refused(text)
		pause := wait/2 + rand.N(wait)
		switch status.Code(err) {
		case codes.Unauthenticated, codes.PermissionDenied:
			pause = max(pause, refusedWait)
		case codes.ResourceExhausted:
			pause = min(pause, crowdedWait)
		}
		if text != told {
			s.log.Warn("workload certificate not issued", "reason", text, "retry_in", pause.Round(time.Millisecond), "valid_until", s.Status().NotAfter)
			told = text
		}
		wait = min(2*wait, longestWait)
		if st := s.Status(); st.State == Issued && !expired {
			left := st.NotAfter.Sub(s.cfg.Clock.Now())
			if expired = left <= 0; expired {
				s.log.Error("workload certificate expired: new connections fail, those that there are go on", "expired_at", st.NotAfter, "reason", text)
			} else {
				pause = min(pause, left) // so that it is told when it happens
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.kick:
			wanted = true
			timer.Stop()
		case <-s.back:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return nil
}

func (s *Source) refused(reason string) {
	if s.cfg.Refused != nil {
		s.cfg.Refused(reason)
	}
}

// took notes a new certificate and tells whether it is of the authority that signs.
func (s *Source) took(v *SVID, renew time.Time) (current bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.take(v, renew)
	s.leaf = v.Leaf()
	select {
	case <-s.turn: // this is the answer
	default:
	}
	return s.current()
}

// issue makes a key and has it certified.
func (s *Source) issue(ctx context.Context) (*SVID, error) {
	key, err := certs.NewKey(s.cfg.KeyType)
	if err != nil {
		return nil, err
	}
	request, err := certs.NewCSR(key)
	if err != nil {
		return nil, err
	}
	pairs := []string{authn.NodeID, s.cfg.Node}
	if s.cfg.Application {
		pairs = append(pairs, "kuma-identity-for", "application")
	}
	if ctx, err = authn.Outgoing(ctx, s.cfg.Token, pairs...); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var (
		answer certificateResponse
		header metadata.MD
	)
	began := time.Now()
	err = s.cfg.Conn.Invoke(ctx, method, &certificateRequest{csr: request}, &answer,
		grpc.ForceCodecV2(wireCodec{}), grpc.WaitForReady(true), grpc.Header(&header))
	s.measure(header, time.Since(began))
	if err != nil {
		return nil, err
	}
	return s.check(answer.chain, key)
}

// measure takes the control plane's time out of an answer, of which it says how long it had the question.
func (s *Source) measure(header metadata.MD, took time.Duration) {
	first := func(name string) string {
		if list := header.Get(name); len(list) > 0 {
			return list[0]
		}
		return ""
	}
	remote, err := time.Parse(time.RFC3339Nano, first("kuma-cp-time"))
	if err != nil {
		return // another kind of control plane
	}
	if held, err := time.ParseDuration(first("kuma-cp-held")); err == nil && held > 0 && held < took {
		took -= held
	}
	s.cfg.Clock.Measured("certificate", remote, 0, took)
}

// check verifies what came back, leaf first and root last.
func (s *Source) check(answer []string, key crypto.Signer) (*SVID, error) {
	chain, err := certs.ParseCertificates([]byte(strings.Join(answer, "\n")))
	if err != nil {
		return nil, fmt.Errorf("control plane sent an unusable certificate: %w", err)
	}
	if len(chain) < 2 {
		return nil, errors.New("control plane sent a certificate without its authority")
	}
	// An authority may come with further roots behind it.
	v := &SVID{Chain: chain[:len(chain)-1], Key: key, Authorities: chain[1:]}
	if err := verify(v.Chain, v.Authorities, key, s.cfg.Clock); err != nil {
		return nil, fmt.Errorf("control plane sent an unusable certificate: %w", err)
	}
	return v, nil
}
