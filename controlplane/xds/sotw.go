package xds

import (
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// StreamAggregatedResources serves the state-of-the-world protocol.
func (s *Server) StreamAggregatedResources(ss discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return serve(ss.Context(), s, ss.Recv, func(st *stream) protocol[*discoveryv3.DiscoveryRequest] {
		return &sotw{stream: st, send: ss.Send, subs: map[string]*sotwSub{}}
	})
}

type sotw struct {
	*stream
	send func(*discoveryv3.DiscoveryResponse) error
	subs map[string]*sotwSub
}

// sotwSub is what a stream knows about one type.
type sotwSub struct {
	names []string // sorted
	// named is set once the peer has named resources: from then on an empty list means none instead of all.
	named    bool
	wildcard bool
	// version is what the peer has: a hash of the resources that it asked for, so that it stays good over a reconnect.
	version string
	nonce   string
	// sent are the names of the last response; open says that it waits for an answer.
	sent []string
	open bool
	// overtaken are the names of responses before the last one that wait for an answer, by nonce.
	overtaken map[string][]string
	// force: send even if the version is the same, because the peer asks for more names.
	force bool
}

func (*sotw) fresh(r *discoveryv3.DiscoveryRequest) bool { return r.VersionInfo == "" }

func (p *sotw) request(r *discoveryv3.DiscoveryRequest) {
	if !served(r.TypeUrl) {
		return
	}
	sub := p.subs[r.TypeUrl]
	first := sub == nil
	if first {
		// A version without a nonce is from an earlier stream.
		sub = &sotwSub{version: r.VersionInfo}
		p.subs[r.TypeUrl] = sub
		p.sub.Requested(r.TypeUrl, !p.fresh(r))
	} else if r.ResponseNonce != sub.nonce {
		if names, ok := sub.overtaken[r.ResponseNonce]; ok { // it counts, but what it asks for is old
			delete(sub.overtaken, r.ResponseNonce)
			p.answered(r.TypeUrl, names, true, r.ErrorDetail)
		}
		return
	}
	if !first && sub.nonce != "" {
		sub.open, sub.overtaken = false, nil // answers come in order
		p.answered(r.TypeUrl, sub.sent, true, r.ErrorDetail)
	}
	names := slices.Compact(slices.Sorted(slices.Values(r.ResourceNames)))
	if len(names) > 0 {
		sub.named = true
	}
	all := slices.Contains(names, "*")
	sub.wildcard = all || !sub.named && (r.TypeUrl == TypeCluster || r.TypeUrl == TypeListener)
	if !first {
		sub.force = sub.force || slices.ContainsFunc(names, func(n string) bool {
			_, had := slices.BinarySearch(sub.names, n)
			return !had
		})
	}
	sub.names = names
}

func (p *sotw) push(snap *Snapshot) error {
	for _, typeURL := range pushOrder() {
		sub := p.subs[typeURL]
		if sub == nil {
			continue
		}
		names, version := sub.choose(snap.get(typeURL))
		if typeURL == TypeEndpoint {
			// Envoy waits for endpoints after every change of clusters, also when they are the same.
			version = hash([]byte(version), []byte(snap.get(TypeCluster).version))
		}
		if version == sub.version && !sub.force {
			continue
		}
		resp := &discoveryv3.DiscoveryResponse{
			VersionInfo: version, TypeUrl: typeURL, Nonce: p.nextNonce(), ControlPlane: p.control,
			Resources: make([]*anypb.Any, len(names)),
		}
		set := snap.get(typeURL)
		for i, n := range names {
			resp.Resources[i] = set.byName[n].Any
		}
		if err := p.send(resp); err != nil {
			return err
		}
		if sub.open {
			if sub.overtaken == nil {
				sub.overtaken = map[string][]string{}
			}
			sub.overtaken[sub.nonce] = sub.sent
		}
		sub.version, sub.nonce, sub.sent, sub.open, sub.force = version, resp.Nonce, names, true, false
		p.sub.Sent(typeURL)
	}
	p.secure(snap, p.settled)
	return nil
}

// settled is that of delta.
func (p *sotw) settled(typeURL string, snap *Snapshot) (settled, asked bool) {
	sub := p.subs[typeURL]
	if sub == nil {
		return false, false
	}
	_, version := sub.choose(snap.get(typeURL))
	return !sub.open && version == sub.version, true
}

// choose returns the names that are there of those that were asked for, and the version of that selection.
func (s *sotwSub) choose(set *set) ([]string, string) {
	if s.wildcard {
		if set.version == "" {
			return nil, versionOf(nil, nil)
		}
		return set.names, set.version
	}
	var names []string
	for _, n := range s.names {
		if set.byName[n] != nil {
			names = append(names, n)
		}
	}
	return names, versionOf(names, set.byName)
}
