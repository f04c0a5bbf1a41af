package relay

import (
	"context"
	"maps"
	"slices"

	rpc "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/kuma-dp/kuma-dp/agent/authn"
)

// deltaSession is a stream to a control plane that implements DeltaAggregatedResources.
type deltaSession struct {
	relay *Relay
	out   *queue[*deltaRequest]
	begun bool
}

func (r *Relay) delta(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, err := authn.Outgoing(ctx, r.cfg.Token)
	if err != nil {
		return err
	}
	stream, err := r.open(ctx, deltaMethod)
	if err != nil {
		return err
	}
	d := &deltaSession{relay: r, out: newQueue[*deltaRequest]()}
	r.attach(d)
	defer r.detach()
	defer sender(ctx, cancel, d.out, func(q *deltaRequest) error { return stream.SendMsg(q) })()
	for {
		answer := &deltaResponse{}
		if err := stream.RecvMsg(answer); err != nil {
			return err
		}
		r.deltaAnswer(d, answer)
	}
}

// sender writes a queue to a stream in a goroutine of its own and returns what ends it.
func sender[T any](ctx context.Context, cancel context.CancelFunc, q *queue[T], send func(T) error) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = q.drain(ctx.Done(), send) // Recv of the same stream tells why it failed
	}()
	return func() { cancel(); <-done }
}

func (d *deltaSession) send(q *deltaRequest) {
	if !d.begun {
		q.node, d.begun = d.relay.node, true
	}
	d.out.put(q)
}

func (d *deltaSession) subscribe(s *subscription, names map[string]struct{}) {
	q := &deltaRequest{typeURL: s.typeURL}
	first := !s.askedAny
	if first {
		q.initial = map[string]string{}
		for name, r := range s.have {
			if r.upstream != "" && (s.typeURL != secretType || d.relay.accepted(s, name)) {
				q.initial[name] = r.upstream
			}
		}
		if s.typeURL == listenerType && d.relay.dns.upstream != "" {
			q.initial[dnsListener] = d.relay.dns.upstream
		}
	}
	wanted := maps.Clone(names)
	if s.wildcard && (len(wanted) > 0 || !wholeState(s.typeURL)) {
		wanted["*"] = struct{}{} // alone, for clusters and listeners, an empty list says the same
	}
	for name := range wanted {
		if _, ok := s.asked[name]; !ok {
			q.subscribe = append(q.subscribe, name)
		}
	}
	for name := range s.asked {
		if _, ok := wanted[name]; !ok {
			q.unsubscribe = append(q.unsubscribe, name)
		}
	}
	slices.Sort(q.subscribe)
	slices.Sort(q.unsubscribe)
	s.asked, s.askedAny = wanted, true
	if first || len(q.subscribe) > 0 || len(q.unsubscribe) > 0 {
		d.send(q)
	}
}

func (d *deltaSession) reply(s *subscription, nonce string, detail *rpc.Status) {
	d.send(&deltaRequest{typeURL: s.typeURL, nonce: nonce, detail: detail})
}

func (r *Relay) deltaAnswer(d *deltaSession, answer *deltaResponse) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.established(protocolDelta)
	s := r.sub(answer.typeURL)
	first := !s.answeredHere
	s.answeredHere = true
	if s.typeURL != secretType { // of which an acknowledgement means that Envoy has it
		for _, nonce := range s.owed { // Envoy has not yet been asked about the one before: it goes with this one
			d.reply(s, nonce, nil)
		}
		s.owed = nil
	}
	for _, res := range answer.resources {
		if res.body == nil {
			continue // a heartbeat: only its time to live is renewed, and Envoy has none from us
		}
		if !s.wants(res.name) {
			continue // unsubscribed while it was under way
		}
		if err := r.put(s, res.name, newHeld(res.body, res.version)); err != nil {
			r.log.Error("dns table refused", "reason", err.Error())
			d.reply(s, answer.nonce, invalid(err))
			return
		}
	}
	if first && s.wildcard {
		s.forgetUnversioned(answer)
	}
	trapped := s.typeURL == listenerType && r.dns.version != ""
	for _, name := range answer.removed {
		if s.typeURL == listenerType && name == dnsListener {
			trapped = false
		}
		delete(s.have, name)
		if _, named := s.names[name]; named {
			s.missing[name] = struct{}{}
		}
	}
	if s.typeURL == listenerType && !trapped {
		r.untrap(s)
	}
	r.arrived(s, answer.version, answer.nonce)
}

// forgetUnversioned drops what a peer of the other protocol gave: this one was not told of it, so it sends all that
// exists and says nothing of what does not.
func (s *subscription) forgetUnversioned(answer *deltaResponse) {
	present := make(map[string]struct{}, len(answer.resources))
	for _, res := range answer.resources {
		present[res.name] = struct{}{}
	}
	for name, h := range s.have {
		if _, ok := present[name]; !ok && h.upstream == "" {
			delete(s.have, name)
		}
	}
}
