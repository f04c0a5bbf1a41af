package xds

import (
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// DeltaAggregatedResources serves the incremental protocol.
func (s *Server) DeltaAggregatedResources(ss discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return serve(ss.Context(), s, ss.Recv, func(st *stream) protocol[*discoveryv3.DeltaDiscoveryRequest] {
		return &delta{stream: st, send: ss.Send, subs: map[string]*deltaSub{}, open: map[string]unanswered{}}
	})
}

type delta struct {
	*stream
	send func(*discoveryv3.DeltaDiscoveryResponse) error
	subs map[string]*deltaSub
	// open are the nonces that wait for an answer.
	open map[string]unanswered
	// deaf: so many waited for an answer that they were forgotten.
	deaf bool
}

// unanswered is a response that the peer has not answered.
type unanswered struct {
	typeURL string
	names   []string
}

// maxOpen bounds the responses whose answers are waited for.
const maxOpen = 1 << 10

// deltaSub is what a stream knows about one type.
type deltaSub struct {
	wildcard bool
	names    map[string]bool
	// known are the versions that the peer has or was sent, "" for a name of which it was told that there is none.
	known map[string]string
	// silent is set until the first response: a peer that asked for everything must hear even that there is nothing, and one
	// that comes back with all of it that nothing changed, or it could not tell a served stream from a dead one.
	silent bool
	// told is the set that the peer knows all of, as far as it subscribes; nil when it must be compared.
	told *set
}

func (*delta) fresh(r *discoveryv3.DeltaDiscoveryRequest) bool {
	return len(r.InitialResourceVersions) == 0
}

func (p *delta) request(r *discoveryv3.DeltaDiscoveryRequest) {
	if !served(r.TypeUrl) {
		return
	}
	if o, ok := p.open[r.ResponseNonce]; ok {
		delete(p.open, r.ResponseNonce)
		p.answered(r.TypeUrl, o.names, false, r.ErrorDetail)
	}
	sub := p.subs[r.TypeUrl]
	first := sub == nil
	if first {
		sub = &deltaSub{names: map[string]bool{}, known: maps.Clone(r.InitialResourceVersions)}
		if sub.known == nil {
			sub.known = map[string]string{}
		}
		sub.silent = true
		sub.wildcard = len(r.ResourceNamesSubscribe) == 0
		p.subs[r.TypeUrl] = sub
		p.sub.Requested(r.TypeUrl, !p.fresh(r))
	}
	if len(r.ResourceNamesSubscribe)+len(r.ResourceNamesUnsubscribe) > 0 {
		sub.told = nil
	}
	for _, n := range r.ResourceNamesSubscribe {
		if n == "*" {
			sub.wildcard = true
			continue
		}
		sub.names[n] = true
		if !first {
			delete(sub.known, n) // who subscribes again wants it again
		}
	}
	for _, n := range r.ResourceNamesUnsubscribe {
		if n == "*" {
			sub.wildcard = false
			maps.DeleteFunc(sub.known, func(name, _ string) bool { return !sub.names[name] })
			continue
		}
		delete(sub.names, n)
		delete(sub.known, n)
	}
}

// push sends additions in the order of dependencies, and clusters are taken away only when no listener uses them.
func (p *delta) push(snap *Snapshot) error {
	var late []string
	for _, typeURL := range pushOrder() {
		sub := p.subs[typeURL]
		if sub == nil {
			continue
		}
		set := snap.get(typeURL)
		if sub.told == set && !sub.silent {
			continue
		}
		changed, removed := sub.diff(set)
		if typeURL == TypeCluster {
			late, removed = removed, nil
			p.resendEndpoints(changed)
		}
		if err := p.respond(typeURL, set, changed, removed, sub.silent && sub.wildcard); err != nil {
			return err
		}
		sub.told = set
	}
	if len(late) > 0 {
		if err := p.respond(TypeCluster, snap.get(TypeCluster), nil, late, false); err != nil {
			return err
		}
	}
	p.secure(snap, p.settled)
	return nil
}

// settled tells whether the peer has acknowledged all of a type that it asked for, and whether it asked for any.
func (p *delta) settled(typeURL string, snap *Snapshot) (settled, asked bool) {
	sub := p.subs[typeURL]
	if sub == nil {
		return false, false
	}
	if p.deaf || sub.told == nil || sub.told.version != snap.get(typeURL).version {
		return false, true
	}
	for _, o := range p.open {
		if o.typeURL == typeURL {
			return false, true
		}
	}
	return true, true
}

// outdated is a version that no resource has.
const outdated = "?"

// resendEndpoints makes the endpoints of clusters that the peer gets anew look old: Envoy waits for them.
func (p *delta) resendEndpoints(clusters []string) {
	if sub := p.subs[TypeEndpoint]; sub != nil {
		for _, c := range clusters {
			if sub.known[c] != "" {
				sub.known[c], sub.told = outdated, nil
			}
		}
	}
}

func (p *delta) respond(typeURL string, set *set, changed, removed []string, always bool) error {
	if len(changed) == 0 && len(removed) == 0 && !always {
		return nil
	}
	sub := p.subs[typeURL]
	resp := &discoveryv3.DeltaDiscoveryResponse{
		SystemVersionInfo: set.version, TypeUrl: typeURL, Nonce: p.nextNonce(), ControlPlane: p.control,
		RemovedResources: removed,
	}
	for _, n := range changed {
		r := set.byName[n]
		resp.Resources = append(resp.Resources, &discoveryv3.Resource{Name: n, Version: r.Version, Resource: r.Any})
	}
	if err := p.send(resp); err != nil {
		return err
	}
	if len(p.open) >= maxOpen {
		clear(p.open) // a peer that never answers
		p.deaf = true
	}
	p.open[resp.Nonce] = unanswered{typeURL, slices.Concat(changed, removed)}
	p.sub.Sent(typeURL)
	sub.silent = false
	for _, n := range changed {
		sub.known[n] = set.byName[n].Version
	}
	for _, n := range removed {
		if sub.names[n] {
			sub.known[n] = ""
		} else {
			delete(sub.known, n)
		}
	}
	return nil
}

// diff returns, sorted, what the peer lacks or has in another version, and what it has or asks for that is not there.
func (s *deltaSub) diff(set *set) (changed, removed []string) {
	want := func(n string) {
		if v, ok := s.known[n]; !ok || v != set.byName[n].Version {
			changed = append(changed, n)
		}
	}
	if s.wildcard {
		for _, n := range set.names {
			want(n)
		}
	} else {
		for _, n := range slices.Sorted(maps.Keys(s.names)) {
			if set.byName[n] != nil {
				want(n)
			}
		}
	}
	for n, v := range s.known {
		if set.byName[n] == nil && v != "" {
			removed = append(removed, n)
		}
	}
	for n := range s.names {
		if _, told := s.known[n]; set.byName[n] == nil && !told {
			removed = append(removed, n)
		}
	}
	slices.Sort(removed)
	return changed, removed
}
