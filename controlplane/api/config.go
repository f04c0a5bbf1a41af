// Package api is the REST interface of the control plane on ports 5681 and 5682 (contract controlplane.md §2). What it
// serves for a kind follows from the kind's descriptor; kinds have no code here, but for the filters of Dataplanes.
//
// Where Kuma 2.9.13 takes any request over loopback for the administrator, this package follows later versions: the
// peer and the Host must be loopback, no proxy may have been in between, and no foreign web page may be asking.
package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Authentication types of Config.AuthnType.
const (
	AuthnTokens           = "tokens"
	AuthnAdminClientCerts = "adminClientCerts"
)

// Config is what New needs. Store, Registry, Issuer and Validator are required.
type Config struct {
	Store     store.Store
	Registry  *resource.Registry
	Issuer    *token.Issuer
	Validator *token.Validator
	// Zone is where resources that are created here come from.
	Zone resource.ZoneInfo

	// HTTPAddress and HTTPSAddress are where Run listens, "host:port"; empty means not at all.
	HTTPAddress  string
	HTTPSAddress string
	// TLS is required with HTTPSAddress. With AuthnAdminClientCerts it must verify client certificates.
	TLS *tls.Config

	// AuthnType is AuthnTokens (also when empty) or AuthnAdminClientCerts, with which every verified client
	// certificate is the administrator's.
	AuthnType string
	// LocalhostIsAdmin makes requests from this host the administrator's.
	LocalhostIsAdmin bool
	// DisableUserIssuer, DisableDataplaneIssuer and DisableZoneIssuer refuse to issue tokens: they are issued offline.
	DisableUserIssuer, DisableDataplaneIssuer, DisableZoneIssuer bool
	// Hardened refuses what 2.9 allows to those without credentials: every change, and the views of configuration, stats
	// and clusters. It also refuses labels that only control planes give.
	Hardened bool
	// Access says who may do what; DefaultAccess when nil.
	Access *Access
	// CORSAllowedDomains are regular expressions of whole origins, such as `https://gui\.example`. None by default.
	CORSAllowedDomains []string
	// ReadOnly refuses PUT and DELETE of resources.
	ReadOnly bool

	// Index is the body of GET /.
	Index Index
	// EffectiveConfig returns the body of GET /config, with secrets blanked; nil is an empty object.
	EffectiveConfig func() any

	// BeforePut may refuse a resource that is valid by itself, for what it means beside others, and may complete it:
	// next is not stored yet and may be changed. old is nil on create.
	BeforePut func(ctx context.Context, old, next *resource.Resource) ([]resource.Violation, error)
	// Check does the same for a resource that is not going to be stored, and changes nothing else; nil refuses nothing.
	Check func(old, next *resource.Resource) ([]resource.Violation, error)
	// StrictChange tells whom it shuts out that old is replaced by next, either of which may be nil, when nobody may have come
	// without an identity for so long; nil for what changes no inbound's mode. May be nil.
	StrictChange func(old, next *resource.Resource, quiet time.Duration) (*StrictChange, error)
	// Foresee tells of a resource that has just been stored what will not work with the proxies that there are; the writer is
	// warned of it. Nil foresees nothing.
	Foresee func(*resource.Resource) []string
	// OnMeshCreate returns what is committed together with a new Mesh: authorities, signing key, default policies.
	OnMeshCreate func(ctx context.Context, mesh *resource.Resource) ([]store.Op, error)
	// OnMeshUpdate returns what is committed together with a changed Mesh: the end of an authority that was rotated away.
	OnMeshUpdate func(old, next *resource.Resource) []store.Op
	// Extra adds endpoints of other packages.
	Extra func(Router)

	// ReadHeaderTimeout (5 s when 0), ReadTimeout (20 s) and IdleTimeout (2 min) end slow and idle connections;
	// WriteTimeout (1 min) ends slow readers.
	ReadHeaderTimeout, ReadTimeout, WriteTimeout, IdleTimeout time.Duration
	// MaxBody is the largest request body in bytes; 1 MiB when 0.
	MaxBody int64
	// ShutdownTimeout is how long running requests may take when Run ends; 5 s when 0.
	ShutdownTimeout time.Duration

	// Now is time.Now when nil.
	Now func() time.Time
	// Log is silent when nil.
	Log *slog.Logger
}

// Index is the body of GET /, by which kumactl finds out what it speaks to.
type Index struct {
	ClusterID   string `json:"clusterId"`
	GUI         string `json:"gui"`
	Hostname    string `json:"hostname"`
	InstanceID  string `json:"instanceId"`
	Product     string `json:"product"`
	Version     string `json:"version"`
	BasedOnKuma string `json:"basedOnKuma,omitempty"`
}

// Handler answers a request or returns why it does not: an *Error, or any error, which becomes a 500 without details.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Router takes the endpoints of other packages. They run behind authentication: see UserOf and Access.
type Router struct {
	// Access is the one in force.
	Access Access
	server *Server
}

// Handle adds a pattern of http.ServeMux, such as "GET /meshes/{mesh}/dataplanes/{name}/_config". At most one Doc describes
// it; without one only its path is known.
func (r Router) Handle(pattern string, h Handler, doc ...Doc) {
	r.server.handle(pattern, h, append(doc, Doc{})[0])
}

func (c *Config) defaults() error {
	switch {
	case c.Store == nil || c.Registry == nil || c.Issuer == nil || c.Validator == nil:
		return errors.New("configure api: Store, Registry, Issuer and Validator are required")
	case c.HTTPSAddress != "" && c.TLS == nil:
		return errors.New("configure api: HTTPS needs a certificate")
	case c.AuthnType == AuthnAdminClientCerts && (c.TLS == nil || c.TLS.ClientCAs == nil || c.TLS.ClientAuth < tls.VerifyClientCertIfGiven):
		return errors.New("configure api: authentication type adminClientCerts needs HTTPS with an authority of client certificates")
	case c.AuthnType != "" && c.AuthnType != AuthnTokens && c.AuthnType != AuthnAdminClientCerts:
		return errors.New(`configure api: authentication type is neither "tokens" nor "adminClientCerts"`)
	}
	orDefault(&c.ReadHeaderTimeout, 5*time.Second)
	orDefault(&c.ReadTimeout, 20*time.Second)
	orDefault(&c.WriteTimeout, time.Minute)
	orDefault(&c.IdleTimeout, 2*time.Minute)
	orDefault(&c.ShutdownTimeout, 5*time.Second)
	orDefault(&c.MaxBody, 1<<20)
	if c.Access == nil {
		c.Access = new(DefaultAccess())
	}
	if c.Hardened {
		c.Access = new(c.Access.hardened())
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func orDefault[T ~int64](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

func compileOrigins(patterns []string) ([]*regexp.Regexp, error) {
	var out []*regexp.Regexp
	for _, p := range patterns {
		re, err := regexp.Compile("^(?:" + p + ")$")
		if err != nil {
			return nil, errors.Join(errors.New("configure api: CORS domain is not a regular expression"), err)
		}
		if re.MatchString("https://anybody.invalid") {
			return nil, fmt.Errorf("configure api: CORS domain %q lets every web page read the api: name the origins, such as https://gui\\.example", p)
		}
		out = append(out, re)
	}
	return out, nil
}
