package service

import (
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/resource"
)

// facts is what follows from the proxies of a service (contract policies.md §2.1).
type facts struct {
	state      string
	identities []resource.ServiceIdentity
	tls        string
	counts     resource.DataplaneProxyCount
}

// local tells whether the service belongs to this zone: the status of others comes from theirs.
func local(r *resource.Resource) bool {
	origin := r.Labels[resource.LabelOrigin]
	return origin == "" || origin == resource.OriginZone
}

// derive computes the facts of s. Empty says that s has been without proxies long enough for that to mean something.
func derive(m *topology.Mesh, s *topology.Service, empty bool) facts {
	f := facts{state: resource.StateUnavailable, tls: resource.TLSNotReady}
	issued := 0
	names := map[string]bool{}
	for _, d := range s.Dataplanes {
		f.counts.Total++
		if d.Insight.Online() {
			f.counts.Connected++
		}
		if healthy(s.Spec.Ports, d) {
			f.counts.Healthy++
		}
		if d.Identity() != "" {
			issued++
		}
		for _, in := range d.Inbounds() {
			if v := in.Tags[resource.TagService]; v != "" {
				names[v] = true
			}
		}
	}
	if f.counts.Healthy > 0 {
		f.state = resource.StateAvailable
	}
	for name := range names {
		f.identities = append(f.identities, resource.ServiceIdentity{Type: resource.IdentityServiceTag, Value: name})
	}
	slices.SortFunc(f.identities, func(a, b resource.ServiceIdentity) int { return strings.Compare(a.Value, b.Value) })
	switch {
	case m.Spec.EnabledBackend() == nil:
	case s.Status.TLS != nil && s.Status.TLS.Status == resource.TLSReady: // never taken back while mTLS is on
		f.tls = resource.TLSReady
	case f.counts.Total == 0 && !empty:
	case issued == f.counts.Total:
		f.tls = resource.TLSReady
	}
	return f
}

// healthy tells whether every port of the service has an inbound in state Ready. The inbound of a port is the first
// whose name is the port's, or whose number is the port's (not its targetPort's).
func healthy(ports []resource.ServicePort, d *topology.Dataplane) bool {
	for _, p := range ports {
		i := slices.IndexFunc(d.Inbounds(), func(in *resource.Inbound) bool { return in.Name == p.Name || in.Port == p.Port })
		if i < 0 || !d.Inbounds()[i].Healthy() {
			return false
		}
	}
	return true
}

// apply returns a copy of r that says f, nil when r does.
func (f facts) apply(r *resource.Resource) *resource.Resource {
	spec := *r.Spec.(*resource.MeshService)
	status := resource.MeshServiceStatus{}
	old, _ := r.Status.(*resource.MeshServiceStatus)
	if old != nil {
		status = *old
	}
	if spec.State == f.state && slices.Equal(spec.Identities, f.identities) &&
		status.TLS != nil && status.TLS.Status == f.tls && status.DataplaneProxies != nil && *status.DataplaneProxies == f.counts {
		return nil
	}
	spec.State, spec.Identities = f.state, f.identities
	status.TLS, status.DataplaneProxies = &resource.TLSStatus{Status: f.tls}, &f.counts
	out := *r
	out.Spec, out.Status = &spec, &status
	return &out
}
