package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

const titleToken = "Could not issue a token"

func (s *Server) dataplaneToken(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Name     string              `json:"name"`
		Mesh     string              `json:"mesh"`
		Tags     map[string][]string `json:"tags"`
		Type     string              `json:"type"`
		ValidFor string              `json:"validFor"`
	}
	if err := s.tokenRequest(r, s.cfg.Access.GenerateDPToken, &req); err != nil {
		return err
	}
	var faults []resource.Violation
	if req.Mesh == "" {
		faults = append(faults, resource.Violation{Field: "mesh", Reason: "cannot be empty"})
	}
	if types := []string{"", token.TypeDataplane, token.TypeIngress, token.TypeEgress}; !slices.Contains(types, strings.ToLower(req.Type)) {
		faults = append(faults, resource.Violation{Field: "type", Reason: `must be one of ["dataplane", "ingress", "egress"]`})
	}
	validFor, fault := lifetime(req.ValidFor, false)
	if faults = append(faults, fault...); len(faults) > 0 {
		return Invalid(titleToken, "Invalid request", faults...)
	}
	raw, err := s.cfg.Issuer.Dataplane(token.Dataplane{Name: req.Name, Mesh: req.Mesh, Tags: req.Tags, Type: strings.ToLower(req.Type)}, validFor)
	return writeToken(w, raw, err)
}

func (s *Server) userToken(w http.ResponseWriter, r *http.Request) error {
	var req struct {
		Name     string   `json:"name"`
		Groups   []string `json:"groups"`
		ValidFor string   `json:"validFor"`
	}
	if err := s.tokenRequest(r, s.cfg.Access.GenerateUserToken, &req); err != nil {
		return err
	}
	var faults []resource.Violation
	if req.Name == "" {
		faults = append(faults, resource.Violation{Field: "name", Reason: "cannot be empty"})
	}
	validFor, fault := lifetime(req.ValidFor, true)
	if faults = append(faults, fault...); len(faults) > 0 {
		return Invalid(titleToken, "Invalid request", faults...)
	}
	raw, err := s.cfg.Issuer.User(token.User{Name: req.Name, Groups: req.Groups}, validFor)
	return writeToken(w, raw, err)
}

// tokenRequest checks the access before it reads anything.
func (s *Server) tokenRequest(r *http.Request, l List, into any) error {
	if err := l.Check(UserOf(r.Context()), "token generation at "+r.URL.Path); err != nil {
		return err
	}
	if s.cfg.DisableIssuer {
		return &Error{Status: http.StatusBadRequest, Title: titleToken, Detail: "issuing of tokens is disabled on this control plane: issue them offline"}
	}
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return &Error{Status: http.StatusRequestEntityTooLarge, Title: titleToken, Detail: "body is too large"}
	}
	if err != nil {
		return &Error{Status: http.StatusBadRequest, Title: "Bad Request", Detail: "body is not a JSON object of a token request"}
	}
	return nil
}

// lifetime reads validFor. Nothing means the default, unless one is required.
func lifetime(text string, required bool) (time.Duration, []resource.Violation) {
	d, err := time.Duration(0), error(nil)
	if text != "" {
		d, err = time.ParseDuration(text)
	}
	switch {
	case err != nil || d < 0:
		return 0, []resource.Violation{{Field: "validFor", Reason: `must be a positive duration such as "720h"`}}
	case d == 0 && required:
		return 0, []resource.Violation{{Field: "validFor", Reason: "cannot be empty"}}
	}
	return d, nil
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
