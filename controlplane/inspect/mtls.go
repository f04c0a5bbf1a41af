package inspect

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/mtlsreports"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
	"github.com/kuma-dp/kuma-dp/resource"
)

// MTLSReports is what the package asks about reports of agents; mtlsreports.Reports is one.
type MTLSReports interface {
	Of(dataplane resource.Key) *mtlsreports.Received
}

// The answer of `_mtls`. Lists are never null.
type (
	mtlsBody struct {
		Mesh string `json:"mesh"`
		// Quiet is how long nobody may have come without an identity for an inbound to be ready.
		Quiet string `json:"quiet"`
		// States counts the inbounds by state, and Services has the worst state of each service.
		States   map[mtlsreport.State]int    `json:"states"`
		Services map[string]mtlsreport.State `json:"services"`
		Inbounds []mtlsInbound               `json:"inbounds"`
	}
	mtlsInbound struct {
		Dataplane string `json:"dataplane"`
		// Service is the inbound's tag kuma.io/service.
		Service  string `json:"service"`
		Address  string `json:"address,omitempty"`
		Port     uint32 `json:"port"`
		Protocol string `json:"protocol,omitempty"`
		// Mode is what policies ask for.
		Mode  mtlsreport.Mode  `json:"mode"`
		State mtlsreport.State `json:"state"`
		Why   string           `json:"why"`
		// Connected: the proxy has a stream to this control plane.
		Connected bool `json:"connected"`
		// ReportedAt is when the agent told the rest, Since when it began to count; both are missing when it never did.
		ReportedAt time.Time        `json:"reportedAt,omitzero"`
		Since      time.Time        `json:"since,omitzero"`
		MTLS       mtlsreport.Count `json:"mtls"`
		ForeignTLS mtlsreport.Count `json:"foreignTls"`
		Plaintext  mtlsreport.Count `json:"plaintext"`
		Refused    uint64           `json:"refused"`
		Peers      []mtlsPeer       `json:"peers"`
		Forgotten  uint64           `json:"forgotten,omitempty"`
	}
	mtlsPeer struct {
		mtlsreport.Peer
		// Dataplane has the peer's address, and Service and Namespace are its own; empty for one that is not of the mesh. With
		// several proxies on one host they are "a or b".
		Dataplane string `json:"dataplane,omitempty"`
		Service   string `json:"service,omitempty"`
		Namespace string `json:"namespace,omitempty"`
	}
)

// urgency orders states, the one to look at first.
var urgency = []mtlsreport.State{
	mtlsreport.StateWouldBreak, mtlsreport.StateUnknown, mtlsreport.StateObserving, mtlsreport.StateReady, mtlsreport.StateOff, mtlsreport.StateEnforced,
}

func (i *Inspector) mtls(w http.ResponseWriter, req *http.Request) error {
	if _, err := i.mesh(req); err != nil {
		return err
	}
	q := req.URL.Query()
	quiet, err := api.Quiet(q.Get("quiet"))
	if err != nil {
		return err
	}
	mesh := req.PathValue("mesh")
	modes, err := i.cfg.Proxies.MTLSModes(mesh)
	if errors.Is(err, xds.ErrUnknownMesh) {
		return api.NotFound(titleMesh) // it has just been stored
	}
	if err != nil {
		return err
	}
	body := mtlsBody{
		Mesh: mesh, Quiet: quiet.String(), States: map[mtlsreport.State]int{}, Services: map[string]mtlsreport.State{}, Inbounds: []mtlsInbound{},
	}
	peers := i.peers(mesh)
	for _, m := range modes {
		if s := q.Get("service"); s != "" && m.Inbound.Tags[resource.TagService] != s {
			continue
		}
		one := i.mtlsInbound(m, quiet, time.Now(), peers)
		body.Inbounds = append(body.Inbounds, one)
		body.States[one.State]++
		worst, known := body.Services[one.Service]
		if !known || slices.Index(urgency, one.State) < slices.Index(urgency, worst) {
			body.Services[one.Service] = one.State
		}
	}
	slices.SortStableFunc(body.Inbounds, func(a, b mtlsInbound) int {
		return cmp.Or(cmp.Compare(slices.Index(urgency, a.State), slices.Index(urgency, b.State)), cmp.Compare(a.Service, b.Service))
	})
	return api.WriteJSON(w, http.StatusOK, body)
}

// mtlsInbound judges an inbound at a moment.
func (i *Inspector) mtlsInbound(m xds.InboundMode, quiet time.Duration, now time.Time, peers map[netip.Addr]mtlsPeer) mtlsInbound {
	out := mtlsInbound{
		Dataplane: m.Dataplane.Name, Service: m.Inbound.Tags[resource.TagService], Port: m.Inbound.Port, Protocol: m.Inbound.Tags[resource.TagProtocol],
		Mode: modeOf(m.Mode), Connected: i.cfg.Proxies.IsConnected(m.Dataplane.Mesh, m.Dataplane.Name), Peers: []mtlsPeer{},
	}
	if m.Address.IsValid() {
		out.Address = m.Address.Addr().String()
	}
	received, told := i.told(m)
	if told == nil {
		out.State, out.Why = withoutReport(&out)
		return out
	}
	out.State, out.Why = told.Verdict(received.Now(now), quiet)
	out.ReportedAt, out.Since = received.At.UTC(), received.Ours(told.Since).UTC()
	out.MTLS, out.ForeignTLS, out.Plaintext, out.Refused, out.Forgotten = told.MTLS, told.ForeignTLS, told.Plaintext, told.Refused, told.Forgotten
	for _, p := range told.Peers {
		one := peers[p.Address]
		one.Peer = p
		one.FirstSeen, one.LastSeen = received.Ours(p.FirstSeen).UTC(), received.Ours(p.LastSeen).UTC()
		if p.Open > 0 && out.Connected {
			one.LastSeen = now.UTC()
		}
		out.Peers = append(out.Peers, one)
	}
	switch {
	case !out.Connected && out.State != mtlsreport.StateWouldBreak:
		out.State, out.Why = mtlsreport.StateUnknown, "its proxy is not connected: what has come since the last report nobody knows"
	case told.Mode != out.Mode:
		out.Why += fmt.Sprintf("; its Envoy is still %s", told.Mode)
	}
	return out
}

// told is what the agent has said of an inbound; nil when nothing.
func (i *Inspector) told(m xds.InboundMode) (*mtlsreports.Received, *mtlsreport.Inbound) {
	received := i.cfg.MTLSReports.Of(m.Dataplane.Key)
	if received == nil {
		return nil, nil
	}
	n := slices.IndexFunc(received.Inbounds, func(in mtlsreport.Inbound) bool { return in.Address == m.Address })
	if n < 0 {
		return received, nil
	}
	return received, &received.Inbounds[n]
}

// withoutReport judges by what the proxy is told alone.
func withoutReport(in *mtlsInbound) (mtlsreport.State, string) {
	switch {
	case in.Mode == mtlsreport.Off:
		return mtlsreport.StateOff, "mTLS of the mesh is off"
	case !in.Connected:
		return mtlsreport.StateUnknown, "its proxy is not connected"
	case in.Mode == mtlsreport.Strict:
		return mtlsreport.StateEnforced, "only connections with an identity of the mesh are let in"
	default:
		return mtlsreport.StateUnknown, "its agent does not count connections: it is Kuma's, or an older one"
	}
}

func modeOf(backend string) mtlsreport.Mode {
	switch backend {
	case "":
		return mtlsreport.Off
	case resource.MTLSPermissive:
		return mtlsreport.Permissive
	default:
		return mtlsreport.Strict
	}
}

// or is a peer that may be either.
func (p mtlsPeer) or(other mtlsPeer) mtlsPeer {
	join := func(a, b string) string {
		list := strings.Split(a, " or ")
		if b == "" || slices.Contains(list, b) || len(list) > 3 {
			return a
		}
		return strings.TrimPrefix(a+" or "+b, " or ")
	}
	p.Dataplane, p.Service, p.Namespace = join(p.Dataplane, other.Dataplane), join(p.Service, other.Service), join(p.Namespace, other.Namespace)
	return p
}

// peers are the Dataplanes of a mesh by where their connections come from.
func (i *Inspector) peers(mesh string) map[netip.Addr]mtlsPeer {
	out := map[netip.Addr]mtlsPeer{}
	for _, r := range i.cfg.Store.List(resource.KindDataplane, mesh) {
		n := resource.SpecOf[*resource.Dataplane](r).Networking
		if n == nil {
			continue
		}
		p := mtlsPeer{Dataplane: r.Name, Namespace: r.Labels[resource.LabelNamespace]}
		addresses := []string{n.Address, n.AdvertisedAddress}
		for _, in := range n.Inbound {
			p.Service = cmp.Or(p.Service, in.Tags[resource.TagService])
			addresses = append(addresses, in.Address)
		}
		if n.Gateway != nil {
			p.Service = cmp.Or(p.Service, n.Gateway.Tags[resource.TagService])
		}
		for _, text := range addresses {
			a, err := netip.ParseAddr(text)
			if err != nil || a.IsLoopback() {
				continue
			}
			if other, known := out[a]; known && other.Dataplane != p.Dataplane { // several proxies of one host
				out[a] = other.or(p)
			} else {
				out[a] = p
			}
		}
	}
	return out
}
