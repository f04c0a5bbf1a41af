package agent

import (
	"crypto/x509"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"

	"github.com/spf13/pflag"

	"github.com/kuma-dp/kuma-dp/agent/identity"
	"github.com/kuma-dp/kuma-dp/agent/workloadapi"
	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/internal/group"
)

// WorkloadAPI says whether applications get identities, and which.
type WorkloadAPI struct {
	// Socket is the path of the SPIFFE Workload API that is served; "" (default) serves none.
	Socket string `json:"socket,omitempty"`
	// UIDs are the users that are answered; the agent's own when empty.
	UIDs []uint `json:"uids,omitempty"`
}

func (c *Config) workloadAPISettings() []setting {
	w := &c.WorkloadAPI
	return []setting{
		{"workload-api-socket", "", "KUMA_WORKLOAD_API_SOCKET", "unix socket on which applications get X.509 identities by the SPIFFE Workload API; default none", text(&w.Socket)},
		{"workload-api-uids", "", "KUMA_WORKLOAD_API_UIDS", "users that are answered on --workload-api-socket; default the one that kuma-dp runs as", func(f *pflag.FlagSet, name, short, help string) {
			f.UintSliceVarP(&w.UIDs, name, short, w.UIDs, help)
		}},
	}
}

func (w *WorkloadAPI) problems(proxyType string) (out []string) {
	if w.Socket == "" {
		if len(w.UIDs) > 0 {
			out = append(out, "--workload-api-uids needs --workload-api-socket")
		}
		return out
	}
	if path, ok := socketPath(w.Socket); !ok || filepath.Clean(path) != path {
		out = append(out, ".Socket is not valid: "+w.Socket+" is neither unix:///path nor an absolute path")
	}
	for _, uid := range w.UIDs {
		if uid >= math.MaxUint32 {
			out = append(out, fmt.Sprintf(".UIDs is not valid: %d is no user", uid))
		}
	}
	if proxyType != "dataplane" {
		out = append(out, "a zone proxy has no application: leave out --workload-api-socket")
	}
	return out
}

// applications gives the applications beside the proxy an identity. Its methods may be called concurrently.
type applications struct {
	server *workloadapi.Server
	source *identity.Source // asks for their certificate; nil when they get that of the proxy
	mesh   string
	uids   []uint32

	mu      sync.Mutex
	svid    *identity.SVID
	trusted []*x509.Certificate // what Envoy trusts; nil while it has not been told
}

// buildApplications serves the Workload API, if that is wanted. With certificates of the control plane applications get one of
// their own, so that Envoy's key stays with Envoy; what comes from elsewhere they share.
func (a *Agent) buildApplications(p *parts) error {
	w := a.cfg.WorkloadAPI
	if w.Socket == "" {
		return nil
	}
	ap := &applications{mesh: a.cfg.Dataplane.Mesh, uids: []uint32{uint32(os.Geteuid())}}
	if len(w.UIDs) > 0 {
		ap.uids = nil
		for _, uid := range w.UIDs {
			ap.uids = append(ap.uids, uint32(uid))
		}
	}
	path, _ := socketPath(w.Socket)
	log := a.log.With("component", "workload API")
	var err error
	if ap.server, err = workloadapi.New(workloadapi.Config{Path: path, UIDs: ap.uids, Wanted: ap.wanted, Log: log}); err != nil {
		return err
	}
	p.applications, p.trust.merged = ap, ap.trust
	p.members = append(p.members, group.Member{Name: "workload API", Run: ap.server.Run})
	if a.cfg.Identity.Source != identity.FromControlPlane {
		return nil
	}
	if ap.source, err = identity.New(identity.Config{
		Conn: p.upstream, Token: a.cfg.DataplaneRuntime.source(), Node: a.cfg.Dataplane.Mesh + "." + a.cfg.Dataplane.Name,
		KeyType: a.cfg.Identity.KeyType, Clock: a.clock, Log: log, Application: true,
		Issued: func(v *identity.SVID) {
			ap.give(v)
			p.relay.TrustChanged() // which may have waited for this certificate
		},
		Refused: func(reason string) {
			if ap.source.Status().NotAfter.Before(a.clock.Now()) { // what there was stays until it expires
				ap.withdraw(reason)
			}
			p.relay.TrustChanged() // nor for one that does not come
		},
		Unsupported: func() {
			ap.withdraw("the control plane makes the keys itself, as Kuma 2.9 does, and issues none for applications")
		},
	}); err != nil {
		return err
	}
	p.members = append(p.members, group.Member{Name: "identity of applications", Run: ap.source.Run})
	return nil
}

// wanted says that an application asks.
func (ap *applications) wanted() {
	if ap.source != nil {
		ap.source.Wanted()
	}
}

// withdraw takes what there was away and tells those who ask why there is none.
func (ap *applications) withdraw(reason string) {
	ap.mu.Lock()
	ap.svid = nil
	ap.mu.Unlock()
	ap.server.Withdraw(reason)
}

// current tells whether applications need no other certificate by these authorities, PEM, of which the first signs.
func (ap *applications) current(bundle []byte) bool {
	if ap == nil || ap.source == nil {
		return true
	}
	current := ap.source.Signer(bundle)
	return current || ap.source.Status().State != identity.Issued // who has none does not hold up a rotation
}

// give takes a new identity.
func (ap *applications) give(v *identity.SVID) {
	if ap == nil {
		return
	}
	ap.mu.Lock()
	defer ap.mu.Unlock()
	ap.svid = v
	ap.push()
}

// trust takes what Envoy trusts, PEM.
func (ap *applications) trust(bundle []byte) {
	list, err := certs.ParseCertificates(bundle)
	if ap == nil || err != nil {
		return
	}
	ap.mu.Lock()
	defer ap.mu.Unlock()
	ap.trusted = list
	ap.push()
}

// push serves what there is. The caller holds the lock.
func (ap *applications) push() {
	v := ap.svid
	if v == nil {
		return
	}
	key, err := x509.MarshalPKCS8PrivateKey(v.Key)
	if err != nil {
		return // a key that was read or made is one that can be written
	}
	out := workloadapi.SVID{ID: v.ID(ap.mesh), Chain: der(v.Chain), Key: key}
	r := &workloadapi.X509Response{}
	switch {
	case !v.Member(ap.mesh): // of another trust domain, for which the mesh's authorities do not speak
		out.Bundle = der(v.Authorities)
		if len(ap.trusted) > 0 {
			r.Federated = map[string][]byte{certs.SPIFFEID{TrustDomain: ap.mesh}.String(): der(ap.trusted)}
		}
	case len(ap.trusted) > 0:
		out.Bundle = der(ap.trusted)
	default:
		out.Bundle = der(v.Authorities)
	}
	r.SVIDs = []workloadapi.SVID{out}
	ap.server.Set(r)
}

// der is certificates one after the other.
func der(list []*x509.Certificate) (out []byte) {
	for _, c := range list {
		out = append(out, c.Raw...)
	}
	return out
}

// applicationsStatus is what the page "identity" says about applications.
type applicationsStatus struct {
	Socket string   `json:"socket"`
	UIDs   []uint32 `json:"uids"`
	// Identity is their own; nil when they get that of the proxy.
	Identity *identity.Status `json:"identity,omitempty"`
}

func (ap *applications) status(socket string) *applicationsStatus {
	if ap == nil {
		return nil
	}
	st := &applicationsStatus{Socket: socket, UIDs: ap.uids}
	if ap.source != nil {
		own := ap.source.Status()
		st.Identity = &own
	}
	return st
}
