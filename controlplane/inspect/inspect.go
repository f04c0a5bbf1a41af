// Package inspect answers what is in force at a proxy: the rules that policies make for it, the configuration that
// follows, and what its Envoy says of itself (contract controlplane.md §2.3, policies.md §4.8).
package inspect

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/identity"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/older"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Proxies is what the package asks about proxies; xds.Server is one.
type Proxies interface {
	Rules(mesh, name string, shadow bool) ([]*policy.Rules, error)
	GatewayRules(mesh, gateway string) ([]*policy.Rules, error)
	ConfigOf(mesh, name string, shadow bool) (map[string]map[string]json.RawMessage, error)
	AdminEndpoint(mesh, name string) (xds.AdminEndpoint, error)
	ZoneAdminEndpoint(kind resource.Kind, name string) (xds.AdminEndpoint, error)
	Status(mesh, name string) (*xds.Status, error)
	Blame(mesh, name string, kind resource.Kind) (*xds.Status, error)
	ZoneStatus(kind resource.Kind, name string) (*xds.Status, error)
	Preview(before *topology.World, c topology.Change) *xds.Preview
	IsConnected(mesh, name string) bool
	MTLSModes(mesh string) ([]xds.InboundMode, error)
	MTLSModesAfter(old, next *resource.Resource) (before, after []xds.InboundMode, err error)
	Secured(id topology.ProxyID, mesh string, bundle []byte) (connected, secured bool, err error)
}

// Authorities is what the package asks about those of meshes; identity.Issuer is one.
type Authorities interface {
	Backends(mesh string) ([]identity.Backend, error)
	Bundle(mesh string) ([]byte, error)
}

// Config is what New needs, all of it.
type Config struct {
	Store store.Reader
	// Watch gives everything that is stored, of one moment; that of a store.Store.
	Watch       func() ([]*resource.Resource, store.Watcher)
	Proxies     Proxies
	Authorities Authorities
	MTLSReports MTLSReports
	// Kinds are the policies, all.Kinds(), and Zone is the name of the zone.
	Kinds []policy.Kind
	Zone  string
	// Admin secures the way to Envoys.
	Admin *identity.Admin
	// ConnectTimeout bounds the dialling of an Envoy and, again, its TLS handshake; Timeout each wait for an answer or for
	// more of it.
	ConnectTimeout, Timeout time.Duration
}

// Inspector serves the endpoints. It is safe for concurrent use.
type Inspector struct {
	cfg   Config
	envoy *envoyClient
	// routes is the kind of policy that others may name as their top-level targetRef.
	routes resource.Kind
	// older are the kinds of policies from before target references.
	older []*resource.Descriptor
	// slow lets one preview or status of a policy be made at a time: it may take all of a core for a while.
	slow chan struct{}
}

// New makes an Inspector.
func New(cfg Config) (*Inspector, error) {
	envoy, err := newEnvoyClient(&cfg)
	if err != nil {
		return nil, err
	}
	i := &Inspector{cfg: cfg, envoy: envoy, slow: make(chan struct{}, 1)}
	for _, k := range cfg.Kinds {
		if _, ok := k.Descriptor.NewSpec().(policy.Routed); ok {
			i.routes = k.Descriptor.Kind
		}
	}
	for _, d := range resource.Core() {
		if _, ok := d.NewSpec().(resource.OlderPolicy); ok {
			i.older = append(i.older, d)
		}
	}
	return i, nil
}

// alone waits until nothing else that is slow is being made.
func (i *Inspector) alone(ctx context.Context) (done func(), err error) {
	select {
	case i.slow <- struct{}{}:
		return func() { <-i.slow }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

const (
	titleGet  = "Could not retrieve a resource"
	titleMesh = "Failed to retrieve Mesh"
)

// Routes adds the endpoints.
func (i *Inspector) Routes(r api.Router) {
	const proxy = "GET /meshes/{mesh}/dataplanes/{name}/"
	seesConfig := func(h api.Handler) api.Handler { return allowed(r.Access.ViewConfigDump, "config dump", h) }
	r.Handle(proxy+"_config", seesConfig(i.config), api.Doc{
		Summary: "The configuration that Envoy gets", Tag: tag, Query: []string{"shadow", "include"}, Response: configBody{},
	})
	i.adminRoutes(r, proxy, func(req *http.Request) (xds.AdminEndpoint, error) {
		return i.cfg.Proxies.AdminEndpoint(req.PathValue("mesh"), req.PathValue("name"))
	})
	status := api.Doc{Summary: "How Envoy gets on with its configuration", Tag: tag, Response: statusBody{}}
	r.Handle(proxy+"_status", seesConfig(i.status), status)
	for _, kind := range []resource.Kind{resource.KindZoneIngress, resource.KindZoneEgress} {
		zoneProxy := "GET /" + strings.ToLower(string(kind)) + "es/{name}/"
		i.adminRoutes(r, zoneProxy, func(req *http.Request) (xds.AdminEndpoint, error) {
			return i.cfg.Proxies.ZoneAdminEndpoint(kind, req.PathValue("name"))
		})
		r.Handle(zoneProxy+"_status", seesConfig(i.zoneStatus(kind)), status)
	}
	r.Handle("GET /meshes/{mesh}/_authorities", i.authorities, api.Doc{
		Summary: "The certificate authorities of a mesh, and which proxies do not have them yet", Tag: tag, Response: authoritiesBody{},
	})
	r.Handle("GET /meshes/{mesh}/_mtls", i.mtls, api.Doc{
		Summary: "Which inbounds of a mesh take connections without mTLS, and who makes them", Tag: tag, Query: []string{"service", "quiet"}, Response: mtlsBody{},
	})
	i.previewRoute(r)
	i.hostnameRoutes(r)
	doc := func(summary string, response any) api.Doc {
		return api.Doc{Summary: summary, Tag: tag, Response: response}
	}
	rules, gateways := doc("The rules that policies make", rulesBody{}), doc("The builtin gateways that it configures", gatewayProxies{})
	r.Handle(proxy+"_rules", i.rules, rules)
	r.Handle(proxy+"rules", i.olderRules, doc("The rules in the older form", olderRulesBody{}))
	r.Handle(proxy+"policies", i.policies, doc("The policies that match", api.AnyOf{policiesBody{}, gatewayPoliciesBody{}}))
	r.Handle("GET /meshes/{mesh}/meshgateways/{name}/_rules", i.gatewayRules, rules)
	r.Handle("GET /meshes/{mesh}/meshgateways/{name}/dataplanes", i.gatewayDataplanes, gateways)
	r.Handle("GET /meshes/{mesh}/meshgatewayroutes/{name}/dataplanes", i.gatewayRouteDataplanes, gateways)
	dataplanes := func(kind *resource.Descriptor, matching func(*resource.Resource) matcher) {
		for _, end := range []string{"_resources/dataplanes", "-resources/dataplanes", "dataplanes"} {
			d := doc("The data planes that the policy matches", dataplanesBody{})
			d.Query = []string{"size", "offset", "name"}
			r.Handle("GET /meshes/{mesh}/"+kind.Path+"/{name}/"+end, i.dataplanes(kind.Kind, matching, end == "dataplanes"), d)
		}
	}
	for _, k := range i.cfg.Kinds {
		dataplanes(k.Descriptor, func(p *resource.Resource) matcher { return i.matching(k, p) })
		r.Handle("GET /meshes/{mesh}/"+k.Descriptor.Path+"/{name}/_status", seesConfig(i.policyStatus(k)),
			doc("What Envoys refuse because of the policy, and what of it has no effect", policyStatusBody{}))
	}
	for _, d := range i.older {
		dataplanes(d, func(p *resource.Resource) matcher {
			return func(dp *resource.Resource) bool { return older.Matches(p, dp, i.cfg.Zone) }
		})
	}
}

// tag groups the endpoints in the OpenAPI document.
const tag = "Inspect"

// allowed lets only those ask who may.
func allowed(list api.List, what string, h api.Handler) api.Handler {
	return func(w http.ResponseWriter, req *http.Request) error {
		if err := list.Check(api.UserOf(req.Context()), what); err != nil {
			return err
		}
		return h(w, req)
	}
}

// rulesError is proxyError for rules. What is missing of them because there would be too many is said in the warnings.
func rulesError(err error) error {
	if errors.Is(err, policy.ErrTooManySubsets) {
		return nil
	}
	return proxyError(err)
}

// proxyError turns an error of Proxies into an answer.
func proxyError(err error) error {
	if errors.Is(err, xds.ErrUnknownProxy) {
		return api.NotFound(titleGet)
	}
	return err
}

// resource returns what a request names beside its mesh, with the Mesh, or the answer that it is not there.
func (i *Inspector) resource(req *http.Request, kind resource.Kind) (*resource.Resource, *resource.Mesh, error) {
	mesh, err := i.mesh(req)
	if err != nil {
		return nil, nil, err
	}
	r, err := i.cfg.Store.Get(resource.Key{Kind: kind, Mesh: req.PathValue("mesh"), Name: req.PathValue("name")})
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, api.NotFound(titleGet)
	}
	return r, mesh, err
}

// mesh returns the Mesh of the request, or the answer that there is none.
func (i *Inspector) mesh(req *http.Request) (*resource.Mesh, error) {
	r, err := i.cfg.Store.Get(resource.Key{Kind: resource.KindMesh, Name: req.PathValue("mesh")})
	if errors.Is(err, store.ErrNotFound) {
		return nil, api.NotFound(titleMesh)
	}
	if err != nil {
		return nil, err
	}
	return resource.SpecOf[*resource.Mesh](r), nil
}

type configBody struct {
	XDS  map[string]map[string]json.RawMessage `json:"xds"`
	Diff []Operation                           `json:"diff,omitzero"` // nil when it was not asked for
}

// config shows the configuration of a proxy, with shadow=true as the shadow policies would make it, and with include=diff
// what they would change.
func (i *Inspector) config(w http.ResponseWriter, req *http.Request) error {
	query := req.URL.Query()
	diff := false
	for _, v := range query["include"] {
		for part := range strings.SplitSeq(v, ",") {
			if part != "diff" {
				return api.Invalid(titleGet, "Invalid include", resource.Violation{Field: "include", Reason: `must be one of ["diff"]`})
			}
			diff = true
		}
	}
	mesh, name := req.PathValue("mesh"), req.PathValue("name")
	shadow := query.Get("shadow") == "true"
	body := configBody{}
	var err error
	if body.XDS, err = i.cfg.Proxies.ConfigOf(mesh, name, shadow); err != nil {
		return proxyError(err)
	}
	if !diff {
		return body.write(w)
	}
	current := body.XDS
	if shadow {
		if current, err = i.cfg.Proxies.ConfigOf(mesh, name, false); err != nil {
			return proxyError(err)
		}
	}
	if body.Diff, err = diffJSON(current, body.XDS); err != nil {
		return err
	}
	return body.write(w)
}
