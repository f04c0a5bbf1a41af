package mtls

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
)

// maxOpen bounds the connections of an inbound that are followed to their end; those beyond are counted all the same.
const maxOpen = 16 << 10

// maxOver bounds the connections that are remembered after their end; what comes later comes within moments.
const maxOver = 4 << 10

// ended is a connection after its end.
type ended struct {
	told time.Time
	as   *mtlsreport.Peer // nil as long as nothing was told of it but its end
}

// peerKey is who counts as one peer.
type peerKey struct {
	address netip.Addr
	kind    mtlsreport.Kind
}

// inbound counts at one listener. The monitor's lock guards it.
type inbound struct {
	listener
	since   time.Time
	served  map[mtlsreport.Kind]*mtlsreport.Count
	refused uint64
	peers   map[peerKey]*mtlsreport.Peer
	// open are connections without an identity, by where they come from.
	open map[netip.AddrPort]*mtlsreport.Peer
	// over are connections of which the end has been told. What was in them may come later, for logs come on streams of their
	// own.
	over      map[netip.AddrPort]*ended
	forgotten uint64
}

func newInbound(l listener, now time.Time) *inbound {
	return &inbound{
		listener: l, since: now, served: map[mtlsreport.Kind]*mtlsreport.Count{mtlsreport.Plaintext: {}, mtlsreport.ForeignTLS: {}},
		peers: map[peerKey]*mtlsreport.Peer{}, open: map[netip.AddrPort]*mtlsreport.Peer{},
		over: map[netip.AddrPort]*ended{},
	}
}

// take counts an entry of a log and tells whether it has brought somebody new.
func (in *inbound) take(of string, e entry, now time.Time) (news bool) {
	kind := mtlsreport.Kind(of)
	total := in.served[kind]
	if total == nil {
		return in.end(e, now)
	}
	p := in.open[e.remote]
	if p != nil && p.Kind != kind { // its end was not told
		in.closed(e.remote, p)
		p = nil
	}
	begins := e.kind == upstreamConnected || e.kind == requestStart
	over := in.over[e.remote]
	if over != nil && e.start.After(over.told) { // another one, from the same port; Envoy's clock is this host's
		delete(in.over, e.remote)
		over = nil
	}
	if p == nil && over != nil && over.as != nil && over.as.Kind == kind {
		p = over.as
	}
	if p == nil {
		p, news = in.peer(e.remote.Addr(), kind, now)
		p.Connections++
		total.Connections++
		switch {
		case over != nil:
			over.as = p
		case begins && len(in.open) < maxOpen:
			in.open[e.remote] = p
			p.Open++
		}
	}
	if e.http && begins {
		p.Requests++
		total.Requests++
	}
	p.LastSeen = now
	return news
}

// end takes the end of a connection.
func (in *inbound) end(e entry, now time.Time) (news bool) {
	p := in.open[e.remote]
	if p != nil {
		in.closed(e.remote, p)
		p.LastSeen = now
	}
	if !e.tls {
		if len(in.over) >= maxOver {
			clear(in.over)
		}
		in.over[e.remote] = &ended{now, p}
	}
	if !e.unmatched && (!e.tls || e.failure == "") {
		return false
	}
	kind, reason := refusal(e)
	p, news = in.peer(e.remote.Addr(), kind, now)
	p.Connections++
	in.refused++
	p.LastSeen, p.Reason = now, reason
	return news
}

func (in *inbound) closed(remote netip.AddrPort, p *mtlsreport.Peer) {
	p.Open--
	delete(in.open, remote)
}

func (in *inbound) peer(address netip.Addr, kind mtlsreport.Kind, now time.Time) (p *mtlsreport.Peer, news bool) {
	key := peerKey{address, kind}
	if p := in.peers[key]; p != nil {
		return p, false
	}
	if len(in.peers) >= mtlsreport.MaxPeers {
		in.makeRoom()
	}
	p = &mtlsreport.Peer{Address: address, Kind: kind, FirstSeen: now, LastSeen: now}
	in.peers[key] = p
	return p, true
}

// makeRoom forgets the peer that matters least: one that was refused, else the one that was not seen for longest.
func (in *inbound) makeRoom() {
	var least *mtlsreport.Peer
	for _, p := range in.peers {
		if least == nil || matters(p, least) < 0 {
			least = p
		}
	}
	for remote, p := range in.open {
		if p == least {
			delete(in.open, remote)
		}
	}
	delete(in.peers, peerKey{least.Address, least.Kind})
	in.forgotten++
}

// matters orders peers: the last one matters most.
func matters(a, b *mtlsreport.Peer) int {
	rank := func(p *mtlsreport.Peer) int {
		switch {
		case !p.Kind.Served():
			return 0
		case p.Open == 0:
			return 1
		}
		return 2
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), a.LastSeen.Compare(b.LastSeen), b.Address.Compare(a.Address), cmp.Compare(b.Kind, a.Kind))
}

// report is what is known of the inbound.
func (in *inbound) report(now time.Time) mtlsreport.Inbound {
	out := mtlsreport.Inbound{
		Address: in.address, Mode: in.mode, Since: in.since, Refused: in.refused, Forgotten: in.forgotten,
		Plaintext: *in.served[mtlsreport.Plaintext], ForeignTLS: *in.served[mtlsreport.ForeignTLS], Peers: []mtlsreport.Peer{},
	}
	for _, p := range in.peers {
		one := *p
		if one.Open > 0 {
			one.LastSeen = now
		}
		out.Peers = append(out.Peers, one)
	}
	slices.SortFunc(out.Peers, func(a, b mtlsreport.Peer) int { return -matters(&a, &b) })
	return out
}
