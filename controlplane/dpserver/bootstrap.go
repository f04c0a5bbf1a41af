package dpserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/bootstrap"
	"github.com/kuma-dp/kuma-dp/bootstrap/generate"
	"github.com/kuma-dp/kuma-dp/controlplane/identity"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/internal/yamljson"
	"github.com/kuma-dp/kuma-dp/resource"
)

// bootstrap answers with the bodies of contract agent.md §2.2 and §2.3. Unlike 2.9 it checks the token here already:
// an agent learns at once that its token is wrong, and a stranger learns nothing of the mesh.
func (s *Server) bootstrap(w http.ResponseWriter, r *http.Request) {
	out, err := s.answer(w, r)
	if err == nil {
		_, err = w.Write(out) //nolint:gosec // YAML for an agent, not a page
		if err != nil {
			s.log.Debug("could not send a bootstrap", "peer", r.RemoteAddr, "error", err)
		}
		return
	}
	refusal, ok := errors.AsType[*generate.Error](err)
	if !ok {
		refusal = &generate.Error{Status: http.StatusInternalServerError, Cause: err}
	}
	log := s.log.Info
	if refusal.Status >= 500 {
		log = s.log.Error
	}
	log("refused a bootstrap", "peer", r.RemoteAddr, "error", err)
	if refusal.Body != "" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	w.WriteHeader(refusal.Status)
	_, _ = io.WriteString(w, refusal.Body) // a client that has gone needs no answer
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, &generate.Error{Status: http.StatusBadRequest, Cause: fmt.Errorf("read request: %w", err)}
	}
	var req bootstrap.Request
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, &generate.Error{Status: http.StatusBadRequest, Cause: errors.New("the body is no JSON of a bootstrap request")}
	}
	switch req.ProxyType {
	case "", bootstrap.TypeDataplane:
	case bootstrap.TypeIngress, bootstrap.TypeEgress:
		return s.zoneProxy(w, r, &req)
	default:
		return nil, &generate.Error{Status: http.StatusInternalServerError, Cause: fmt.Errorf("unknown proxy type %.50q", req.ProxyType)}
	}
	claims, err := s.authenticate(&req)
	if err != nil {
		return nil, err
	}
	dp, text, err := s.dataplane(&req)
	if err != nil {
		return nil, err
	}
	spec := resource.SpecOf[*resource.Dataplane](dp)
	if claims != nil {
		if err := claims.Allow(token.Proxy{Mesh: req.Mesh, Name: req.Name, Tags: identity.Tags(spec)}); err != nil {
			return nil, unauthenticated(err)
		}
	}
	t := spec.Networking.TransparentProxying
	return s.render(w, r, &req, proxyOf(spec, text), bootstrap.SidecarNetworking{
		IsUsingTransparentProxy: t != nil && t.RedirectPortInbound != 0 && t.RedirectPortOutbound != 0,
		CorefileTemplate:        s.cfg.Corefile,
		Address:                 spec.Networking.Address,
	})
}

func (s *Server) render(w http.ResponseWriter, r *http.Request, req *bootstrap.Request, p generate.Proxy, n bootstrap.SidecarNetworking) ([]byte, error) {
	out, err := generate.Bootstrap(r.Context(), s.cfg.Bootstrap, req, hostOf(r.Host), p)
	if err != nil {
		return nil, err
	}
	// Very old agents take the YAML bare.
	if r.Header.Get("Accept") != "application/json" {
		w.Header().Set("Content-Type", "text/x-yaml")
		return out, nil
	}
	w.Header().Set("Content-Type", "application/json")
	return json.Marshal(bootstrap.Response{Bootstrap: out, Sidecar: bootstrap.SidecarConfiguration{
		Networking: n, Metrics: bootstrap.SidecarMetrics{Aggregate: []bootstrap.MetricsApplication{}},
	}})
}

// authenticate checks what can be checked before the Dataplane is known. Claims are nil when nobody is asked for a token.
func (s *Server) authenticate(req *bootstrap.Request) (*token.Claims, error) {
	if s.cfg.Tokens == nil {
		return nil, nil
	}
	if req.DataplaneToken == "" {
		// Agents send the token even when they also send its path: a path alone proves nothing.
		return nil, generate.ErrTokenRequired
	}
	claims, err := s.cfg.Tokens.Dataplane(req.DataplaneToken)
	if err == nil {
		early := *claims
		early.Tags = nil
		err = early.Allow(token.Proxy{Mesh: req.Mesh, Name: req.Name})
	}
	if err == nil {
		return claims, nil
	}
	// A mesh that is not there has no keys either: say what is wrong, not what follows from it.
	if err := s.meshExists(req.Mesh); err != nil {
		return nil, err
	}
	return nil, unauthenticated(err)
}

func unauthenticated(err error) error {
	return &generate.Error{Status: http.StatusUnauthorized, Body: "authentication failed: " + err.Error()}
}

func refuse(format string, args ...any) error {
	return &generate.Error{Status: http.StatusUnprocessableEntity, Body: fmt.Sprintf(format, args...)}
}

func (s *Server) meshExists(mesh string) error {
	_, err := s.cfg.Store.Get(resource.Key{Kind: resource.KindMesh, Name: mesh})
	if errors.Is(err, store.ErrNotFound) {
		return refuse("mesh: mesh %q does not exist", mesh)
	}
	return err
}

// dataplane returns the Dataplane that the agent brought, with its JSON, or the registered one.
func (s *Server) dataplane(req *bootstrap.Request) (*resource.Resource, string, error) {
	if req.DataplaneResource == "" {
		r, err := s.cfg.Store.Get(resource.Key{Kind: resource.KindDataplane, Mesh: req.Mesh, Name: req.Name})
		if errors.Is(err, store.ErrNotFound) {
			// Without a body: agents then wait for the Dataplane to be registered.
			return nil, "", &generate.Error{Status: http.StatusNotFound, Cause: err}
		}
		return r, "", err
	}
	r, text, err := s.brought(req)
	if _, unknown := errors.AsType[*resource.UnknownKindError](err); err != nil && !unknown {
		return nil, "", err
	}
	if err != nil || r.Kind != resource.KindDataplane {
		return nil, "", &generate.Error{Status: http.StatusInternalServerError, Cause: errors.Join(errors.New("the resource of an agent is no Dataplane"), err)}
	}
	if err := s.meshExists(r.Mesh); err != nil {
		return nil, "", err
	}
	if r.Mesh != req.Mesh || r.Name != req.Name {
		return nil, "", refuse("name: the resource is %s/%s, the request is for %s/%s", r.Mesh, r.Name, req.Mesh, req.Name)
	}
	if err := s.validate(r); err != nil {
		return nil, "", err
	}
	n := resource.SpecOf[*resource.Dataplane](r).Networking
	if n.TransparentProxying != nil && len(n.Outbound) > 0 {
		return nil, "", refuse("outbound: should be empty since dataplane is in Transparent Proxying mode")
	}
	return r, text, nil
}

// brought reads the resource in a request, JSON or YAML, and returns its JSON too. The error is a refusal, or wraps a
// *resource.UnknownKindError.
func (s *Server) brought(req *bootstrap.Request) (*resource.Resource, string, error) {
	text, err := yamljson.ToJSON([]byte(req.DataplaneResource))
	if err != nil {
		return nil, "", refuse("dataplane resource: %v", err)
	}
	r, err := s.cfg.Registry.Decode(text)
	if bad, ok := errors.AsType[*resource.DecodeError](err); ok {
		return nil, "", refuse("%s", violations(bad.Faults))
	}
	if _, unknown := errors.AsType[*resource.UnknownKindError](err); err != nil && !unknown {
		return nil, "", refuse("dataplane resource: %v", err)
	}
	return r, string(text), err
}

// validate gives a resource its labels and refuses one with faults.
func (s *Server) validate(r *resource.Resource) error {
	resource.ComputeLabels(r, s.cfg.Zone)
	if faults := append(resource.ValidateLabels(r, s.cfg.Zone), resource.Validate(r)...); len(faults) > 0 {
		return refuse("%s", violations(faults))
	}
	return nil
}

func violations(list []resource.Violation) string {
	var out []string
	for _, v := range list {
		out = append(out, v.Field+": "+v.Reason)
	}
	return strings.Join(out, "; ")
}

func proxyOf(spec *resource.Dataplane, text string) generate.Proxy {
	out := generate.Proxy{Cluster: "unknown", Resource: text}
	// The identifying service is the first in the order of the alphabet (contract agent.md §2.5).
	if services := slices.Sorted(slices.Values(identity.Tags(spec)[resource.TagService])); len(services) > 0 {
		out.Cluster = services[0]
	}
	if n := spec.Networking; n != nil {
		if n.Admin != nil {
			out.AdminPort = n.Admin.Port
		}
		out.BuiltinGateway = n.Gateway != nil && n.Gateway.Type == resource.GatewayBuiltin
	}
	return out
}

// hostOf strips the port and the brackets of IPv6.
func hostOf(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return strings.Trim(hostport, "[]")
}
