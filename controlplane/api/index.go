package api

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/kuma-dp/kuma-dp/resource"
)

func (s *Server) getIndex(w http.ResponseWriter, _ *http.Request) error {
	return WriteJSON(w, http.StatusOK, s.cfg.Index)
}

type identity struct {
	Name   string   `json:"name"`
	Groups []string `json:"groups"`
}

func (s *Server) whoAmI(w http.ResponseWriter, r *http.Request) error {
	u := UserOf(r.Context())
	return WriteJSON(w, http.StatusOK, identity{u.Name, u.Groups})
}

func (s *Server) getConfig(w http.ResponseWriter, r *http.Request) error {
	if err := s.cfg.Access.ControlPlaneMetadata.Check(UserOf(r.Context()), "the configuration of the control plane"); err != nil {
		return err
	}
	if s.cfg.EffectiveConfig == nil {
		return WriteJSON(w, http.StatusOK, struct{}{})
	}
	return WriteJSON(w, http.StatusOK, s.cfg.EffectiveConfig())
}

type policyInfo struct {
	Name             resource.Kind `json:"name"`
	ReadOnly         bool          `json:"readOnly"`
	Path             string        `json:"path"`
	Singular         string        `json:"singularDisplayName"`
	Plural           string        `json:"pluralDisplayName"`
	IsExperimental   bool          `json:"isExperimental"`
	IsTargetRefBased bool          `json:"isTargetRefBased"`
	IsInbound        bool          `json:"isInbound"`
	IsOutbound       bool          `json:"isOutbound"`
}

type policyList struct {
	Policies []policyInfo `json:"policies"`
}

func (s *Server) getPolicies(w http.ResponseWriter, _ *http.Request) error {
	out := policyList{Policies: []policyInfo{}}
	for _, d := range s.visible() {
		if p := d.Policy; p != nil {
			out.Policies = append(out.Policies, policyInfo{
				Name: d.Kind, ReadOnly: s.readOnly(d), Path: d.Path, Singular: d.Singular, Plural: d.Plural,
				IsTargetRefBased: p.TargetRef, IsInbound: p.HasFrom, IsOutbound: p.HasTo,
			})
		}
	}
	return WriteJSON(w, http.StatusOK, out)
}

type resourceInfo struct {
	IncludeInFederation bool           `json:"includeInFederation"`
	Name                resource.Kind  `json:"name"`
	Path                string         `json:"path"`
	Plural              string         `json:"pluralDisplayName"`
	Policy              *policyTraits  `json:"policy,omitempty"`
	ReadOnly            bool           `json:"readOnly"`
	Scope               resource.Scope `json:"scope"`
	Singular            string         `json:"singularDisplayName"`
}

type policyTraits struct {
	HasFrom     bool `json:"hasFromTargetRef"`
	HasTo       bool `json:"hasToTargetRef"`
	IsTargetRef bool `json:"isTargetRef"`
}

type resourceList struct {
	Resources []resourceInfo `json:"resources"`
}

func (s *Server) getResources(w http.ResponseWriter, _ *http.Request) error {
	out := resourceList{Resources: []resourceInfo{}}
	for _, d := range s.visible() {
		info := resourceInfo{
			IncludeInFederation: d.InFederation, Name: d.Kind, Path: d.Path, Plural: d.Plural,
			ReadOnly: s.readOnly(d), Scope: d.Scope, Singular: d.Singular,
		}
		if p := d.Policy; p != nil {
			info.Policy = &policyTraits{p.HasFrom, p.HasTo, p.TargetRef}
		}
		out.Resources = append(out.Resources, info)
	}
	return WriteJSON(w, http.StatusOK, out)
}

// visible returns the kinds that have a path, by name.
func (s *Server) visible() []*resource.Descriptor {
	out := slices.DeleteFunc(slices.Clone(s.cfg.Registry.All()), func(d *resource.Descriptor) bool { return d.Hidden || d.Path == "" })
	slices.SortFunc(out, func(a, b *resource.Descriptor) int { return cmp.Compare(a.Kind, b.Kind) })
	return out
}

// readOnly is what lists of kinds say. A federated zone says so of all kinds, though it takes some (contract zones.md §5).
func (s *Server) readOnly(d *resource.Descriptor) bool {
	return s.cfg.Zone.Federated || s.whyReadOnly(d) != ""
}
