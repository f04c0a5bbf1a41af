package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// DefaultPort is where redirected queries arrive (contract dns.md §3.2).
const DefaultPort = 15053

// Where the upstreams of a host are written down.
const (
	DefaultResolvConf  = "/etc/resolv.conf"
	DefaultSystemdConf = "/run/systemd/resolve/resolv.conf"
)

// Config says how a Server works. The zero value is usable.
type Config struct {
	// Listen are the addresses to serve, each over UDP and TCP. Port 0 takes a free one; Server.Addrs tells which. Default:
	// 127.0.0.1:15053, and [::1]:15053 where the host has that address. The server answers whoever can reach it, so any
	// address beyond loopback opens the upstreams to others.
	Listen []netip.AddrPort
	// Networks are whom a socket that is bound to all addresses answers besides this host: networks of containers whose
	// queries are redirected to it as they enter the host. Default: whoever can reach it.
	Networks []netip.Prefix
	// Upstreams are asked for all names that are not the mesh's, in this order. When given, no resolv.conf is read.
	Upstreams []netip.AddrPort
	// ResolvConf is the file the upstreams are read from, and read again when it changes. Default /etc/resolv.conf. That it
	// is missing or names no server is no error: mesh names resolve all the same.
	ResolvConf string
	// SystemdConf is read instead when ResolvConf names only the stub of systemd-resolved, whose own queries may be
	// redirected back to us (contract dns.md §4.6). Default /run/systemd/resolve/resolv.conf.
	SystemdConf string
	// HoldSuffixes are answered SERVFAIL until the first table is there, because an upstream would say that their names do
	// not exist and clients would remember. Default mesh and mesh.local; an empty slice that is not nil turns it off.
	HoldSuffixes []string

	// SearchDomains answers NXDOMAIN at once for a name of the mesh with a search domain of resolv.conf behind it, which stub
	// resolvers ask for first and which otherwise costs a question to the upstreams. It takes names away that exist there
	// under the same spelling, for example backend.demo.svc.cluster.local when the mesh has a backend.demo; so it is off
	// unless whoever chooses the names of the mesh knows that none does. Without it the cache bears most of that cost.
	SearchDomains bool

	// CacheBytes bounds the answers of upstreams that are kept in memory: as long as they say, negative ones for 30 s at most
	// (RFC 2308), and that all upstreams failed for 1 s (RFC 9520). Default 1 MiB; negative: none are kept.
	CacheBytes int
	// CacheMaxTTL is how long an answer is kept at most, however much longer it is valid. Default 30 s.
	CacheMaxTTL time.Duration
	// ServeStale is how long after its time a kept answer is still given, with a TTL of 30 s, when no upstream answers
	// (RFC 8767). Default: not at all.
	ServeStale time.Duration

	// QueryTimeout bounds a forwarded query, so that a client learns of the failure before it gives up itself after the
	// customary 5 s. Default 4.5 s.
	QueryTimeout time.Duration
	// AttemptTimeout is how long one upstream may take. The option timeout of resolv.conf goes before it. Default 1.5 s.
	AttemptTimeout time.Duration
	// HedgeDelay is after how long without an answer the next upstream is asked too. Default 300 ms.
	HedgeDelay time.Duration
	// IdleTimeout closes a TCP connection that has sent no whole query for so long. Default 10 s.
	IdleTimeout time.Duration
	// MaxInflight is how many queries may wait for upstreams at once; more are answered SERVFAIL. Default 512.
	MaxInflight int
	// MaxConns is how many TCP connections may be open at once; more are closed at once. Default 256.
	MaxConns int

	// QueryLog writes queries to Log, at level Info, in the form of CoreDNS's log. Default: none.
	QueryLog QueryLog
	// Workers is how many sockets each address has over UDP, each with a goroutine of its own; the kernel spreads clients
	// among them. They are the server's alone: a second server on the same address is told that it is in use, so one agent
	// cannot take over from another without a gap. More of them make each query a little dearer, as batches get smaller.
	// Default: one for every two processors, at most 4. Elsewhere than on Linux there is one.
	Workers int

	// Log takes changes an operator cares about. Default: none.
	Log *slog.Logger
	// Metrics is where the metrics are registered. Default: nowhere.
	Metrics prometheus.Registerer
}

func (c *Config) setDefaults() {
	if c.HoldSuffixes == nil {
		c.HoldSuffixes = []string{"mesh", "mesh.local"}
	}
	or(&c.ResolvConf, DefaultResolvConf)
	or(&c.SystemdConf, DefaultSystemdConf)
	or(&c.CacheBytes, 1<<20)
	or(&c.CacheMaxTTL, 30*time.Second)
	or(&c.QueryTimeout, 4500*time.Millisecond)
	or(&c.AttemptTimeout, 1500*time.Millisecond)
	or(&c.HedgeDelay, 300*time.Millisecond)
	or(&c.IdleTimeout, 10*time.Second)
	or(&c.MaxInflight, 512)
	or(&c.MaxConns, 256)
	or(&c.Workers, max(1, min(runtime.GOMAXPROCS(0)/2, 4)))
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// or gives a field that was not set its default.
func or[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) validate() error {
	var errs []error
	for i, a := range c.Listen {
		if !a.IsValid() {
			errs = append(errs, fmt.Errorf("Listen[%d]: address is not set", i))
		}
	}
	for i, a := range c.Upstreams {
		if !a.IsValid() || a.Port() == 0 {
			errs = append(errs, fmt.Errorf("Upstreams[%d]: %q needs an address and a port", i, a))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"QueryTimeout", c.QueryTimeout},
		{"AttemptTimeout", c.AttemptTimeout},
		{"HedgeDelay", c.HedgeDelay},
		{"IdleTimeout", c.IdleTimeout},
		{"CacheMaxTTL", c.CacheMaxTTL},
		{"ServeStale", c.ServeStale},
		{"MaxInflight", time.Duration(c.MaxInflight)},
		{"MaxConns", time.Duration(c.MaxConns)},
		{"Workers", time.Duration(c.Workers)},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s: must not be negative", d.name))
		}
	}
	if c.QueryLog > QueryLogAll {
		errs = append(errs, fmt.Errorf("QueryLog: %v is none of off, sample and all", c.QueryLog))
	}
	return errors.Join(errs...)
}
