package relay

import (
	"context"
	"maps"
	"slices"

	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"github.com/kuma-dp/kuma-dp/agent/authn"
)

// stateSession is a stream to a control plane that only speaks the state of the world, as a Kuma 2.9 one.
type stateSession struct {
	relay *Relay
	out   *queue[*stateRequest]
	begun bool
}

func (r *Relay) state(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ctx, err := authn.Outgoing(ctx, r.cfg.Token)
	if err != nil {
		return err
	}
	stream, err := r.open(ctx, stateMethod)
	if err != nil {
		return err
	}
	w := &stateSession{relay: r, out: newQueue[*stateRequest]()}
	r.attach(w)
	defer r.detach()
	defer sender(ctx, cancel, w.out, func(q *stateRequest) error { return stream.SendMsg(q) })()
	for {
		answer := &stateResponse{}
		if err := stream.RecvMsg(answer); err != nil {
			return err
		}
		r.stateAnswer(w, answer)
	}
}

func (w *stateSession) send(s *subscription, detail *rpc.Status) {
	q := &stateRequest{
		typeURL: s.typeURL, version: s.ackedVersion, nonce: s.nonce,
		names: slices.Sorted(maps.Keys(s.asked)), detail: detail,
	}
	if !w.begun {
		q.node, w.begun = w.relay.node, true
	}
	w.out.put(q)
}

func (w *stateSession) subscribe(s *subscription, names map[string]struct{}) {
	if s.wildcard {
		names = map[string]struct{}{} // everything includes the named
	} else if len(names) == 0 {
		return // an empty list would mean everything; the old subscription does no harm
	}
	if !s.askedAny {
		s.ackedVersion = "" // versions of another stream mean nothing to this one
	} else if maps.Equal(names, s.asked) {
		return
	}
	s.asked, s.askedAny = names, true
	w.send(s, nil)
}

func (w *stateSession) reply(s *subscription, nonce string, detail *rpc.Status) {
	if nonce == s.nonce { // an answer to an older one would be ignored
		w.send(s, detail)
	}
}

func (r *Relay) stateAnswer(w *stateSession, answer *stateResponse) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.established(protocolState)
	s := r.sub(answer.typeURL)
	s.nonce = answer.nonce
	present := make(map[string]struct{}, len(answer.resources))
	for _, body := range answer.resources {
		name, err := resourceName(body.GetValue())
		if err == nil && name != "" && s.wants(name) {
			present[name] = struct{}{}
			err = r.put(s, name, newHeld(body, ""))
		}
		if err != nil {
			r.log.Error("control plane sent a malformed resource", "type", s.typeURL, "name", name, "reason", err.Error())
			w.reply(s, s.nonce, invalid(err))
			return
		}
	}
	if wholeState(s.typeURL) {
		for name := range s.have {
			if _, ok := present[name]; !ok {
				delete(s.have, name)
			}
		}
	}
	if _, ok := present[dnsListener]; !ok && s.typeURL == listenerType {
		r.untrap(s)
	}
	r.arrived(s, answer.version, answer.nonce)
}

func invalid(err error) *rpc.Status {
	return &rpc.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
}
