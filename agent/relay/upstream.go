package relay

import (
	"bytes"
	"context"
	"math/rand/v2"
	"time"

	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// session is one stream to the control plane, in one of the two protocols. Its methods are called with the relay's lock
// held and must not block.
type session interface {
	// subscribe tells the control plane what is wanted of a type.
	subscribe(s *subscription, names map[string]struct{})
	// reply accepts the answer with the given nonce, or refuses it with detail.
	reply(s *subscription, nonce string, detail *rpc.Status)
}

// Protocols as shown in Status.
const (
	protocolDelta = "delta"
	protocolState = "state-of-the-world"
)

// refusedWait is the least wait after the control plane refused the credential: asking again soon changes nothing
// (demands.md F16).
const refusedWait = 5 * time.Second

// follow keeps a stream to the control plane for as long as ctx lasts.
func (r *Relay) follow(ctx context.Context) error {
	select {
	case <-r.nodeKnown:
	case <-ctx.Done():
		return nil
	}
	wait := r.cfg.MinBackoff
	told := ""
	for ctx.Err() == nil {
		began := r.streams()
		err := r.connect(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the end of ctx is no error
		}
		if r.streams() > began { // it answered: what follows is a new failure
			wait, told = r.cfg.MinBackoff, ""
		}
		pause := wait/2 + rand.N(wait)
		text := explain(err)
		if refusal(err) {
			pause = max(pause, refusedWait+rand.N(refusedWait/2))
		}
		r.mu.Lock()
		r.upFailed = text
		r.mu.Unlock()
		if text != told { // the same trouble is told once, not every few seconds
			r.log.Warn("control plane connection lost", "control_plane", r.cfg.Upstream.Target(), "reason", text, "retry_in", pause.Round(time.Millisecond))
			told = text
		}
		wait = min(2*wait, r.cfg.MaxBackoff)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
	return nil
}

func (r *Relay) streams() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.upCount
}

// connect runs one stream until it ends: delta, or state of the world where delta is not implemented.
func (r *Relay) connect(ctx context.Context) error {
	err := r.delta(ctx)
	if status.Code(err) == codes.Unimplemented {
		err = r.state(ctx)
	}
	return err
}

// attach makes s the stream in use and tells it all subscriptions.
func (r *Relay) attach(s session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.up, r.clusters = s, false
	for _, typeURL := range r.order {
		sub := r.subs[typeURL]
		sub.owed, sub.withheld, sub.nonce, sub.askedAny, sub.answeredHere = nil, nil, "", false, false
		if sub.inflight != nil {
			sub.inflight.owed = nil
		}
		clear(sub.asked)
		r.ask(sub)
	}
}

func (r *Relay) detach() {
	r.mu.Lock()
	r.up, r.upProto = nil, ""
	r.mu.Unlock()
}

// established notes the first answer on a stream. The caller holds the lock.
func (r *Relay) established(protocol string) {
	if r.upProto != "" {
		return
	}
	r.upProto, r.upBegan, r.upFailed = protocol, time.Now(), ""
	r.upCount++
	r.log.Info("control plane connected", "control_plane", r.cfg.Upstream.Target(), "protocol", protocol)
	if r.cfg.Connected != nil {
		r.cfg.Connected()
	}
}

// ask tells the control plane what is wanted of a type. The caller holds the lock.
func (r *Relay) ask(s *subscription) {
	if r.up == nil {
		return
	}
	names := make(map[string]struct{}, len(s.names))
	for name := range s.names {
		if s.typeURL == secretType && name == r.cfg.IdentitySecret && r.identity != identityUpstream {
			continue
		}
		names[name] = struct{}{}
	}
	if len(names) == 0 && !s.wildcard && !s.askedAny {
		return // an empty list would mean everything
	}
	r.up.subscribe(s, names)
	r.expectAnswer()
}

// expectAnswer starts the waits after which silence counts as "there is none".
func (r *Relay) expectAnswer() {
	if !r.clusters {
		return
	}
	for i, wait := range []time.Duration{quiet, quietAll} {
		if r.silence[i] == nil {
			r.silence[i] = time.AfterFunc(wait, func() { r.concludeSilence(i == 1) })
		} else {
			r.silence[i].Reset(wait)
		}
	}
}

func (r *Relay) concludeSilence(wildcards bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.up == nil || !r.clusters {
		return // it is not silent but away
	}
	for _, typeURL := range r.order {
		s := r.subs[typeURL]
		if !s.askedAny {
			continue
		}
		for name := range s.asked {
			if _, ok := s.have[name]; !ok {
				s.missing[name] = struct{}{}
			}
		}
		if wildcards {
			s.answered = true
			if typeURL == listenerType && !r.dns.loaded {
				r.untrap(s)
			}
		}
		r.flush(s)
	}
}

// arrived notes that an answer for the type has been taken, and passes it on. The caller holds the lock.
func (r *Relay) arrived(s *subscription, version, nonce string) {
	s.answered, s.version = true, version
	r.owe(s, nonce)
	if s.typeURL == clusterType && !r.clusters {
		r.clusters = true
		r.expectAnswer()
	}
	r.observe(s)
	r.observeDynamic(s)
	if s.typeURL == listenerType && r.cfg.Listeners != nil {
		r.cfg.Listeners(func(name string) bool { _, ok := s.have[name]; return ok })
	}
	r.flush(s)
}

// put takes one resource into what is held; the DNS table goes its own way.
func (r *Relay) put(s *subscription, name string, resource held) error {
	if s.typeURL == listenerType && name == dnsListener && r.cfg.DNS != nil {
		return r.trap(resource)
	}
	if s.typeURL == secretType && name == r.cfg.IdentitySecret && r.identity != identityUpstream {
		return nil // the local key is better
	}
	if s.typeURL == clusterType {
		delete(r.leaving.until, name)
	}
	if s.typeURL == listenerType && r.cfg.Listener != nil {
		body := resource.body.GetValue()
		if other := r.cfg.Listener(name, body); !bytes.Equal(other, body) {
			resource = newHeld(&anypb.Any{TypeUrl: listenerType, Value: other}, resource.upstream)
		}
	}
	delete(s.missing, name)
	if s.typeURL == secretType && name == r.cfg.TrustSecret {
		r.trust = resource
		resource = r.trusted(resource)
	}
	s.have[name] = resource
	return nil
}

func (r *Relay) trap(resource held) error {
	if r.dns.loaded && r.dns.version == resource.version {
		r.dns.upstream = resource.upstream
		return nil
	}
	records, err := decodeDNS(resource.body.GetValue())
	if err != nil {
		return err
	}
	r.dns = dnsState{loaded: true, version: resource.version, upstream: resource.upstream, records: len(records)}
	r.cfg.DNS(records)
	return nil
}

// untrap is told when the listeners hold no DNS table.
func (r *Relay) untrap(s *subscription) {
	r.observeDynamic(s)
	if r.cfg.DNS == nil || r.dns.loaded && r.dns.version == "" {
		return
	}
	r.dns = dnsState{loaded: true}
	r.cfg.DNS(nil)
}

// explain makes one line of a stream's end.
func explain(err error) string {
	if err == nil {
		return "the control plane ended the stream"
	}
	if s, ok := status.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}

// refusal says whether the control plane answered and would not have us. A 2.9 one says Unknown (contract agent.md §5).
func refusal(err error) bool {
	switch status.Code(err) {
	case codes.Unauthenticated, codes.PermissionDenied, codes.Unknown, codes.InvalidArgument:
		return err != nil
	}
	return false
}

// open begins a stream of the discovery service.
func (r *Relay) open(ctx context.Context, method string) (grpc.ClientStream, error) {
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	return r.cfg.Upstream.NewStream(ctx, desc, "/"+adsService+"/"+method, grpc.ForceCodecV2(frameCodec{}))
}
