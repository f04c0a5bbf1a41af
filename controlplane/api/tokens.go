package api

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	titleToken        = "Could not issue a token"
	titleTokenRequest = "Invalid request"
	empty             = "cannot be empty"
)

type dataplaneTokenRequest struct {
	Name string              `json:"name,omitempty"`
	Mesh string              `json:"mesh"`
	Tags map[string][]string `json:"tags,omitempty"`
	Type string              `json:"type,omitempty"`
	// ValidFor is a Go duration; ten years when empty.
	ValidFor string `json:"validFor,omitempty"`
}

type zoneTokenRequest struct {
	Zone     string   `json:"zone,omitempty"`
	Scope    []string `json:"scope"`
	ValidFor string   `json:"validFor,omitempty"`
}

type userTokenRequest struct {
	Name     string   `json:"name"`
	Groups   []string `json:"groups,omitempty"`
	ValidFor string   `json:"validFor"`
}

func (s *Server) dataplaneToken(w http.ResponseWriter, r *http.Request) error {
	var req dataplaneTokenRequest
	if err := s.tokenRequest(r, s.cfg.Access.GenerateDPToken, s.cfg.DisableDataplaneIssuer, &req); err != nil {
		return err
	}
	var f resource.Faults
	if req.Mesh == "" {
		f.Add("mesh", empty)
	}
	validFor := lifetime(&f, req.ValidFor)
	kind := strings.ToLower(req.Type)
	if types := []string{"", token.TypeDataplane, token.TypeIngress, token.TypeEgress}; !slices.Contains(types, kind) {
		f.Add("type", req.Type+" is not a valid proxy type")
	}
	if len(f) > 0 {
		return Invalid(titleTokenRequest, notValid, f...)
	}
	raw, err := s.cfg.Issuer.Dataplane(token.Dataplane{Name: req.Name, Mesh: req.Mesh, Tags: req.Tags, Type: kind}, validFor)
	return writeToken(w, raw, err)
}

func (s *Server) zoneToken(w http.ResponseWriter, r *http.Request) error {
	var req zoneTokenRequest
	if err := s.tokenRequest(r, s.cfg.Access.GenerateZoneToken, s.cfg.DisableZoneIssuer, &req); err != nil {
		return err
	}
	var f resource.Faults
	if len(req.Scope) == 0 {
		f.Add("scope", empty)
	}
	for i, scope := range req.Scope {
		if scope != token.ScopeIngress && scope != token.ScopeEgress {
			f.Add(resource.Path("scope").Index(i), scope+" is not a valid scope")
		}
	}
	validFor := lifetime(&f, req.ValidFor)
	if len(f) > 0 {
		return Invalid(titleTokenRequest, notValid, f...)
	}
	raw, err := s.cfg.Issuer.Zone(token.Zone{Zone: req.Zone, Scope: req.Scope}, validFor)
	return writeToken(w, raw, err)
}

func (s *Server) userToken(w http.ResponseWriter, r *http.Request) error {
	var req userTokenRequest
	if err := s.tokenRequest(r, s.cfg.Access.GenerateUserToken, s.cfg.DisableUserIssuer, &req); err != nil {
		return err
	}
	var f resource.Faults
	if req.Name == "" {
		f.Add("name", empty)
	}
	validFor := lifetime(&f, req.ValidFor)
	if validFor == 0 && !slices.ContainsFunc(f, func(v resource.Violation) bool { return v.Field == "validFor" }) {
		f.Add("validFor", empty)
	}
	if len(f) > 0 {
		return Invalid(titleTokenRequest, notValid, f...)
	}
	raw, err := s.cfg.Issuer.User(token.User{Name: req.Name, Groups: req.Groups}, validFor)
	return writeToken(w, raw, err)
}

// tokenRequest checks the access before it reads anything.
func (s *Server) tokenRequest(r *http.Request, l List, disabled bool, into any) error {
	if err := l.Check(UserOf(r.Context()), "token generation at "+r.URL.Path); err != nil {
		return err
	}
	if disabled {
		return &Error{Status: http.StatusBadRequest, Title: titleToken, Detail: "issuing tokens using the control plane is disabled, issue them offline"}
	}
	body, err := s.body(r, "token request")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return badBody("token request", err)
	}
	return nil
}

// lifetime reads validFor, 0 when there is none.
func lifetime(f *resource.Faults, text string) time.Duration {
	if text == "" {
		return 0
	}
	d, err := time.ParseDuration(text)
	switch {
	case err != nil:
		f.Add("validFor", "is invalid: "+err.Error())
	case d < 0:
		f.Add("validFor", "is invalid: must not be negative")
	}
	return d
}

func writeToken(w http.ResponseWriter, raw string, err error) error {
	if err != nil {
		return wrap(titleToken, err)
	}
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Cache-Control", "no-store")
	_, err = w.Write([]byte(raw))
	return err
}
