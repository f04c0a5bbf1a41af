// Package identity gets and renews the workload's certificate: the key is made here and stays in memory, the control plane
// signs a certificate request that the dataplane token authenticates (design.md §3.1, decision 3; contract
// controlplane.md §5.5).
package identity

import (
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
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/certs"
)

// Feature is what an agent announces in its bootstrap request, so that the control plane leaves its identity to it.
const Feature = "feature-identity-csr"

const (
	callTimeout = 15 * time.Second // the control plane itself waits up to 5 s for the Dataplane to be registered
	firstWait   = 300 * time.Millisecond
	longestWait = time.Minute
	refusedWait = 5 * time.Second // after a refused credential
	// look is how often the wall clock is read while waiting: a clock that jumps, or a machine that slept, must not
	// carry a certificate past its end.
	look = 30 * time.Second
)

// Config says what a Source needs.
type Config struct {
	// Conn is the connection to the control plane.
	Conn grpc.ClientConnInterface
	// Token gives the credential, read anew for each call; nil or "" sends none.
	Token func() (string, error)
	// Node is <mesh>.<name>.
	Node string
	// Secret is the name under which Envoy asks for the certificate.
	Secret string
	// Issued gets each new Secret. It holds the private key.
	Issued func(secret *anypb.Any)
	// Unsupported is called when the control plane implements no such service, as a Kuma 2.9 one.
	Unsupported func()
	// KeyType of new keys; default ECDSA P-256. Each certificate gets a key of its own.
	KeyType certs.KeyType
	// Log is told of new certificates and of trouble; nil is silent.
	Log *slog.Logger
}

// State of a Source.
type State string

// States.
const (
	Pending      State = "pending"       // no certificate yet
	Issued       State = "issued"        // a certificate of our own key
	NoMTLS       State = "no-mtls"       // the mesh has no mTLS; asked again once Envoy wants a certificate
	ControlPlane State = "control-plane" // the control plane makes key and certificate and sends both
)

// Status is the source at one moment; it holds no key.
type Status struct {
	State     State     `json:"state"`
	URIs      []string  `json:"uris,omitempty"`
	Serial    string    `json:"serial,omitempty"`
	NotBefore time.Time `json:"notBefore,omitzero"`
	NotAfter  time.Time `json:"notAfter,omitzero"`
	RenewAt   time.Time `json:"renewAt,omitzero"`
	LastError string    `json:"lastError,omitempty"`
}

// Source keeps one workload's certificate fresh. Its methods may be called concurrently.
type Source struct {
	cfg  Config
	log  *slog.Logger
	kick chan struct{}
	turn chan struct{} // holds a token when another authority signs

	mu     sync.Mutex
	status Status
	leaf   *x509.Certificate // nil before the first
	signer *x509.Certificate // nil while it is not known
}

// New makes a Source; Run starts it.
func New(cfg Config) (*Source, error) {
	if cfg.Conn == nil || cfg.Node == "" || cfg.Secret == "" || cfg.Issued == nil || cfg.Unsupported == nil {
		return nil, errors.New("make identity source: connection, node, secret and both callbacks are needed")
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Source{cfg: cfg, log: log, kick: make(chan struct{}, 1), turn: make(chan struct{}, 1), status: Status{State: Pending}}, nil
}

// Status returns a snapshot.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// Wanted says that Envoy asks for the certificate: if there is none, it is tried for again now. It does not block.
func (s *Source) Wanted() {
	select {
	case s.kick <- struct{}{}:
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
	select {
	case s.turn <- struct{}{}:
	default:
	}
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
	told := ""
	for ctx.Err() == nil {
		secret, leaf, err := s.issue(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is no error
		}
		if err == nil {
			renew := certs.RenewAt(leaf.NotBefore, leaf.NotAfter, rand.Float64())
			// A back-dated certificate of a very short life is past its half already: never ask in a loop.
			if soonest := time.Now().Add(time.Until(leaf.NotAfter) / 4); renew.Before(soonest) {
				renew = soonest
			}
			current := s.took(leaf, renew)
			s.cfg.Issued(secret)
			s.log.Info("workload certificate issued", "uris", strings.Join(s.Status().URIs, ","), "not_after", leaf.NotAfter, "renew_at", renew.Round(time.Second))
			wanted, told = false, ""
			if current {
				wait = firstWait
				s.until(ctx, renew, s.turn)
			} else { // signed while the authority changed; a control plane that keeps to the other one is not asked in a loop
				s.until(ctx, time.Now().Add(wait/2+rand.N(wait)), nil)
				wait = min(2*wait, longestWait)
			}
			continue
		}
		switch status.Code(err) {
		case codes.Unimplemented:
			s.log.Info("control plane issues no certificates by request: it makes the key and sends it")
			s.update(func(st *Status) { *st = Status{State: ControlPlane} })
			s.cfg.Unsupported()
			<-ctx.Done()
			return nil
		case codes.FailedPrecondition:
			s.update(func(st *Status) { *st = Status{State: NoMTLS} })
			if !wanted {
				select {
				case <-s.kick:
					wanted = true
				case <-ctx.Done():
				}
				continue
			}
		}
		text := explain(err)
		s.update(func(st *Status) { st.LastError = text })
		pause := wait/2 + rand.N(wait)
		if c := status.Code(err); c == codes.Unauthenticated || c == codes.PermissionDenied {
			pause = max(pause, refusedWait)
		}
		if text != told {
			s.log.Warn("workload certificate not issued", "reason", text, "retry_in", pause.Round(time.Millisecond), "valid_until", s.Status().NotAfter)
			told = text
		}
		wait = min(2*wait, longestWait)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.kick:
			wanted = true
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
		}
	}
	return nil
}

// took notes a new certificate and tells whether it is of the authority that signs.
func (s *Source) took(leaf *x509.Certificate, renew time.Time) (current bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.leaf = describe(leaf, renew), leaf
	select {
	case <-s.turn: // this is the answer
	default:
	}
	return s.current()
}

// until waits for a moment of the wall clock, or for what comes first.
func (s *Source) until(ctx context.Context, moment time.Time, first <-chan struct{}) {
	moment = moment.Round(0) // without its monotonic reading
	for {
		left := moment.Sub(time.Now().Round(0))
		if left <= 0 {
			return
		}
		timer := time.NewTimer(min(left, look))
		select {
		case <-timer.C:
		case <-first:
			timer.Stop()
			return
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// issue makes a key and has it certified.
func (s *Source) issue(ctx context.Context) (*anypb.Any, *x509.Certificate, error) {
	key, err := certs.NewKey(s.cfg.KeyType)
	if err != nil {
		return nil, nil, err
	}
	request, err := certs.NewCSR(key)
	if err != nil {
		return nil, nil, err
	}
	md := metadata.Pairs("kuma-node-id", s.cfg.Node)
	if s.cfg.Token != nil {
		token, err := s.cfg.Token()
		if err != nil {
			return nil, nil, fmt.Errorf("read dataplane token: %w", err)
		}
		if token != "" {
			md.Set("authorization", token)
		}
	}
	ctx, cancel := context.WithTimeout(metadata.NewOutgoingContext(ctx, md), callTimeout)
	defer cancel()
	var answer certificateResponse
	if err := s.cfg.Conn.Invoke(ctx, method, &certificateRequest{csr: request}, &answer,
		grpc.ForceCodecV2(wireCodec{}), grpc.WaitForReady(true)); err != nil {
		return nil, nil, err
	}
	return s.check(answer.chain, key)
}

// check verifies what came back, leaf first and root last, and makes the Secret of it.
func (s *Source) check(answer []string, key crypto.Signer) (*anypb.Any, *x509.Certificate, error) {
	chain, err := certs.ParseCertificates([]byte(strings.Join(answer, "\n")))
	if err != nil {
		return nil, nil, fmt.Errorf("control plane sent an unusable certificate: %w", err)
	}
	if len(chain) < 2 {
		return nil, nil, errors.New("control plane sent a certificate without its authority")
	}
	// An authority may come with further roots behind it.
	own := certs.EncodeCertificates(chain[:len(chain)-1]...)
	leaf, err := certs.Verify(own, certs.EncodeCertificates(chain[1:]...), key, time.Now())
	if err != nil {
		return nil, nil, fmt.Errorf("control plane sent an unusable certificate: %w", err)
	}
	keyPEM, err := certs.EncodeKey(key)
	if err != nil {
		return nil, nil, err
	}
	return secret(s.cfg.Secret, own, keyPEM), leaf, nil
}

func describe(leaf *x509.Certificate, renew time.Time) Status {
	st := Status{State: Issued, Serial: leaf.SerialNumber.Text(16), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, RenewAt: renew}
	for _, u := range leaf.URIs {
		st.URIs = append(st.URIs, u.String())
	}
	return st
}

func explain(err error) string {
	if st, ok := status.FromError(err); ok {
		return st.Message()
	}
	return err.Error()
}
