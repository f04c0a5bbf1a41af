// Package relay stands between Envoy and the control plane: Envoy speaks delta ADS to it over a unix socket, and it
// speaks to the control plane in whichever protocol that one implements (design.md §3.1, decision 1).
//
// Resources pass as bytes. The relay adds the token, keeps Envoy's stream through losses of the control plane, reads the
// DNS table out of the listener kuma:dns (which Envoy never sees) and answers for the workload's certificate itself when
// the control plane issues by CSR. It knows no other package of the agent.
package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/kuma-dp/kuma-dp/agent/socket"
	"github.com/kuma-dp/kuma-dp/internal/group"
)

// MaxMessage is how large an answer of the control plane may be, in bytes: a mesh of thousands of services exceeds
// gRPC's own 4 MiB (demands.md F20).
const MaxMessage = 64 << 20

const (
	// quiet is how long a control plane may be silent about a subscription, once it has sent clusters, before it counts
	// as matching nothing: a state-of-the-world peer never answers such a subscription, and Envoy would wait for 15 s.
	quiet = 500 * time.Millisecond
	// quietAll is the same for "all clusters" and "all listeners", where to conclude too early would tell Envoy to serve
	// without any.
	quietAll = 3 * time.Second

	keepaliveAfter   = 20 * time.Second // the control plane forbids pings more often than every 15 s (contract agent.md §5)
	keepaliveTimeout = 15 * time.Second
)

// Config says what a Relay needs.
type Config struct {
	// SocketPath is the unix socket on which Envoy is served.
	SocketPath string
	// Upstream is the connection to the control plane, made by Connect; the caller closes it.
	Upstream *grpc.ClientConn
	// Token gives the credential for a new stream, read anew each time; nil or "" sends none.
	Token func() (string, error)
	// IdentitySecret is the name of the Secret that SetIdentity provides; "" when all secrets come from the control plane.
	IdentitySecret string
	// TrustSecret is the name of the Secret with the authorities that Envoy trusts. Signer gets the content of each new one,
	// PEM, and again after SetIdentity and TrustChanged, and tells whether the certificate is of the authority that comes first; as long as it
	// is not, the control plane hears of no acknowledged secrets. It must not block. "" and nil with IdentitySecret "".
	TrustSecret string
	Signer      func(bundle []byte) (current bool)
	// Trust gets the content of TrustSecret, PEM, each time it is another and when TrustChanged is called, and returns what
	// Envoy is to trust instead; it must not block. Without it the content stays.
	Trust func(bundle []byte) []byte
	// IdentityWanted is called, not concurrently, when Envoy asks for IdentitySecret; it must not block. May be nil.
	IdentityWanted func()
	// Connected is told, not concurrently, when a control plane has answered on a new stream; it must not block. May be nil.
	Connected func()
	// DNS gets each new table, in order; nil when the control plane has none in its listeners. It must not block. Without it
	// the listener kuma:dns passes to Envoy.
	DNS func([]DNSRecord)
	// DynamicConfig is told each time the listener that answers GET /dns is there anew, and when it is gone; before DNS when
	// both change at once. It must not block. May be nil.
	DynamicConfig func(there bool)
	// Observability gets what the control plane says about metrics, JSON, each time it is another; nil when it says nothing
	// any more. It must not block, nor change the bytes. May be nil.
	Observability func(body []byte)
	// Listener gets each Listener that arrives and returns what Envoy is to get in its place; it must not block, nor change the
	// bytes. Listeners is told after each change which there are. May be nil together.
	Listener  func(name string, body []byte) []byte
	Listeners func(there func(name string) bool)
	// AccessLog is called for each access log stream of Envoy and returns what takes its messages; nil refuses such streams.
	AccessLog func() (take func(message []byte) error)
	// Grace is how much longer than the control plane Envoy keeps a cluster: its drain time and a little more, for
	// connections of a changed listener may lead to it (transition.go). 0 takes clusters away at once.
	Grace time.Duration
	// Warming asks Envoy how many of its clusters are not ready yet; nil when it cannot be asked. It may be called before
	// Envoy answers.
	Warming func(context.Context) (int, error)
	// MinBackoff and MaxBackoff bound the jittered wait between attempts to reach the control plane; default 500 ms, 10 s.
	MinBackoff, MaxBackoff time.Duration
	// Log is where changes of the connection and refused configuration are told; nil is silent.
	Log *slog.Logger
}

// Relay is one Envoy's way to its control plane. Its methods may be called concurrently.
type Relay struct {
	cfg Config
	log *slog.Logger

	nodeKnown chan struct{} // closed once Envoy has introduced itself
	question  chan struct{} // holds a token when Envoy is to be asked whether its clusters are warm

	mu       sync.Mutex
	node     []byte // as Envoy sent it; nil before that
	nodeID   string
	subs     map[string]*subscription
	order    []string // types in the order in which Envoy asked for them
	envoy    *envoyStream
	up       session
	upBegan  time.Time
	upProto  string
	upFailed string         // why the last stream ended
	upCount  int            // streams to the control plane so far
	clusters bool           // clusters have arrived on the present stream
	silence  [2]*time.Timer // for names, for wildcards
	identity identityMode
	trust    held // TrustSecret as it came; Envoy's may be another
	dns      dnsState
	warming  warming
	leaving  leaving
	observed string // version of the listener that Observability was told of
	dynamic  string // version of the listener that DynamicConfig was told of
	serial   uint64
}

// dnsState is what the last table was.
type dnsState struct {
	loaded   bool
	version  string // of its listener; "" when there is none
	upstream string
	records  int
}

// Connect prepares a connection to target (host:port); nothing is sent before its first use. With a nil config the
// connection is in clear, for peers reached through a TLS terminator (contract agent.md §2.4).
func Connect(target string, config *tls.Config) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if config != nil {
		creds = credentials.NewTLS(config)
	}
	conn, err := grpc.NewClient("dns:///"+target,
		grpc.WithTransportCredentials(creds),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(), // the token goes to the control plane only
		grpc.WithConnectParams(grpc.ConnectParams{
			// Short, for the relay waits by itself between streams, and gRPC's wait is added to that.
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveAfter, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage)))
	if err != nil {
		return nil, fmt.Errorf("prepare connection to control plane %s: %w", target, err)
	}
	return conn, nil
}

// New checks cfg.
func New(cfg Config) (*Relay, error) {
	if cfg.SocketPath == "" || cfg.Upstream == nil {
		return nil, errors.New("make relay: it needs a socket path and an upstream connection")
	}
	if cfg.MinBackoff == 0 {
		cfg.MinBackoff = 500 * time.Millisecond
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = 10 * time.Second
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	r := &Relay{cfg: cfg, log: log, nodeKnown: make(chan struct{}), question: make(chan struct{}, 1), subs: map[string]*subscription{}}
	r.warming = warming{endpoints: map[string]struct{}{}, limit: stopped(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.warmed()
	})}
	r.leaving = leaving{until: map[string]time.Time{}, next: stopped(r.takeAway)}
	return r, nil
}

// stopped is a timer that does not run yet.
func stopped(f func()) *time.Timer {
	t := time.AfterFunc(time.Hour, f)
	t.Stop()
	return t
}

// Run serves Envoy and follows the control plane until ctx ends. It fails only when the socket cannot be had; the loss
// of the control plane is not a failure.
func (r *Relay) Run(ctx context.Context) error {
	listener, err := socket.Listen(r.cfg.SocketPath)
	if err != nil {
		return err
	}
	defer func() {
		r.mu.Lock()
		for _, t := range append(r.silence[:], r.warming.limit, r.leaving.next) {
			if t != nil {
				t.Stop()
			}
		}
		r.mu.Unlock()
	}()
	return group.Run(ctx,
		group.Member{Name: "envoy side", Run: func(ctx context.Context) error { return r.serve(ctx, listener) }},
		group.Member{Name: "control plane side", Run: r.follow},
		group.Member{Name: "questions to envoy", Run: r.askWarming})
}

// sub returns the state of a type, made when first needed. The caller holds the lock.
func (r *Relay) sub(typeURL string) *subscription {
	s, ok := r.subs[typeURL]
	if !ok {
		s = newSubscription(typeURL)
		if typeURL == clusterType && r.cfg.Grace > 0 {
			s.keeps = r.keeps
		}
		r.subs[typeURL] = s
		r.order = append(r.order, typeURL)
	}
	return s
}

// flush brings Envoy up to date about one type, if nothing is on its way to it already, and settles what the control
// plane is owed when Envoy need not be asked. The caller holds the lock.
func (r *Relay) flush(s *subscription) {
	if r.envoy == nil || s.inflight != nil || r.waits(s) {
		return
	}
	answer := s.next()
	if answer == nil {
		if len(s.owed) > 0 {
			r.settleUpstream(s, s.owed)
			s.owed = nil
		}
		return
	}
	r.serial++
	if s.typeURL == clusterType {
		r.newClusters(s, answer)
		for _, name := range answer.removed {
			delete(r.leaving.until, name)
		}
	}
	s.deliver(answer, strconv.FormatUint(r.serial, 16))
	r.envoy.out.put(answer)
	if s.typeURL == clusterType {
		r.renewEndpoints(answer)
	}
}

// renewEndpoints sends the endpoints of changed clusters again: Envoy warms a changed cluster until it hears of its
// endpoints, even when those are the same as before.
func (r *Relay) renewEndpoints(answer *deltaResponse) {
	s, ok := r.subs[endpointType]
	if !ok {
		return
	}
	for _, c := range answer.resources {
		delete(s.given, endpointsOf(c.body.GetValue(), c.name))
	}
	r.flush(s)
}

func (r *Relay) settleUpstream(s *subscription, nonces []string) {
	verdict := s.verdict()
	if verdict == nil {
		s.ackedVersion = s.version
	}
	if r.up == nil {
		return
	}
	for _, nonce := range nonces {
		r.up.reply(s, nonce, verdict)
	}
}
