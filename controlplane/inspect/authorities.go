package inspect

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/identity"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

// The answer of `_authorities`. Lists are never null.
type (
	authoritiesBody struct {
		// EnabledBackend signs; "" while mTLS is off.
		EnabledBackend string `json:"enabledBackend"`
		// RotationTo is the backend that is to remain, of a rotation under way.
		RotationTo string `json:"rotationTo,omitempty"`
		// Backends are those that proxies are to trust, the enabled one first.
		Backends []backendBody `json:"backends"`
		// Total counts the proxies that have ever been connected, and Ready those of them that trust all backends and have a
		// certificate of the enabled one; Pending are the others.
		Total   int            `json:"total"`
		Ready   int            `json:"ready"`
		Pending []pendingProxy `json:"pending"`
	}
	backendBody struct {
		Name      string    `json:"name"`
		Type      string    `json:"type"`
		KeyType   string    `json:"keyType"`
		NotBefore time.Time `json:"notBefore"`
		NotAfter  time.Time `json:"notAfter"`
		// Fingerprint is the SHA-256 of the certificate that signs.
		Fingerprint string `json:"fingerprint"`
		// Dataplanes counts those whose newest certificate is of the backend.
		Dataplanes int `json:"dataplanes"`
	}
	pendingProxy struct {
		Type string `json:"type"`
		Name string `json:"name"`
		// Connected: it has a stream to this control plane. What one without has is not known.
		Connected bool `json:"connected"`
		// IssuedBackend signed the newest certificate of a Dataplane.
		IssuedBackend string `json:"issuedBackend,omitempty"`
		Reason        string `json:"reason"`
	}
)

// authorities tells which authorities a mesh has, and which proxies do not have them yet.
func (i *Inspector) authorities(w http.ResponseWriter, req *http.Request) error {
	mesh, err := i.mesh(req)
	if err != nil {
		return err
	}
	name := req.PathValue("mesh")
	body := &authoritiesBody{Backends: []backendBody{}, Pending: []pendingProxy{}}
	backends, err := i.cfg.Authorities.Backends(name)
	if errors.Is(err, identity.ErrDisabled) {
		return api.WriteJSON(w, http.StatusOK, body)
	}
	if err != nil {
		return err
	}
	bundle, err := i.cfg.Authorities.Bundle(name)
	if err != nil {
		return err
	}
	body.EnabledBackend = backends[0].Name
	if r := mesh.MTLS.Rotation; r != nil {
		body.RotationTo = r.To
	}
	of := map[string]int{}
	for _, dp := range i.cfg.Store.List(resource.KindDataplane, name) {
		r, err := i.cfg.Store.Get(resource.Key{Kind: resource.KindDataplaneInsight, Mesh: name, Name: dp.Name})
		if err != nil {
			continue // it has never been connected: nobody knows it
		}
		p := pendingProxy{Type: string(dp.Kind), Name: dp.Name}
		if m := resource.SpecOf[*resource.DataplaneInsight](r).MTLS; m != nil {
			p.IssuedBackend = m.IssuedBackend
			of[p.IssuedBackend]++
		}
		if err := i.countProxy(body, p, topology.ProxyID{Mesh: name, Name: dp.Name}, name, mesh, bundle); err != nil {
			return err
		}
	}
	for _, egress := range i.cfg.Store.List(resource.KindZoneEgress, "") {
		p := pendingProxy{Type: string(egress.Kind), Name: egress.Name}
		if err := i.countProxy(body, p, topology.ProxyID{Name: egress.Name}, name, mesh, bundle); err != nil {
			return err
		}
	}
	for _, b := range backends {
		sum := sha256.Sum256(b.Certificate.Raw)
		body.Backends = append(body.Backends, backendBody{
			Name: b.Name, Type: b.Type, KeyType: b.Certificate.PublicKeyAlgorithm.String(), NotBefore: b.Certificate.NotBefore,
			NotAfter: b.Certificate.NotAfter, Fingerprint: hex.EncodeToString(sum[:]), Dataplanes: of[b.Name],
		})
	}
	return api.WriteJSON(w, http.StatusOK, body)
}

func (i *Inspector) countProxy(body *authoritiesBody, p pendingProxy, id topology.ProxyID, name string, mesh *resource.Mesh, bundle []byte) error {
	connected, secured, err := i.cfg.Proxies.Secured(id, name, bundle)
	if err != nil {
		return err
	}
	p.Connected = connected
	body.Total++
	switch {
	case !connected:
		p.Reason = "it is not connected"
	case p.IssuedBackend != body.EnabledBackend && mesh.Trusts(p.IssuedBackend): // an agent that acknowledges at once
		p.Reason = "it has a certificate of " + p.IssuedBackend
	case !secured:
		p.Reason = "its Envoy has not taken the authorities, or no certificate of the one that signs"
	default:
		body.Ready++
		return nil
	}
	body.Pending = append(body.Pending, p)
	return nil
}
