package xds

import "github.com/kuma-dp/kuma-dp/controlplane/topology"

// A proxy registers before its Envoy listens: a client that was told of it at once would find a closed port. So a proxy
// that brings its Dataplane along and has no listeners yet is joining, and no endpoint, until it has answered its first
// listeners. A refusal is an answer too: Envoy takes the listeners that it can, and one bad listener must not keep an
// instance out for good. Nothing of this is stored, so that the Dataplane looks as in 2.9; what comes back with the
// listeners that it had, after a cut or a restart of the control plane, is an endpoint all the time.

// hold notes that a proxy is joining, unless another of its streams says that it listens. l.mu is held.
func (l *Lifecycle) hold(id topology.ProxyID) {
	if l.joining[id] || l.proxies[id].streams > 1 {
		return
	}
	l.joining[id] = true
	if l.cfg.Joining != nil {
		l.cfg.Joining(id, true)
	}
}

// settle ends what hold began. l.mu is held.
func (l *Lifecycle) settle(id topology.ProxyID) {
	if !l.joining[id] {
		return
	}
	delete(l.joining, id)
	if l.cfg.Joining != nil {
		l.cfg.Joining(id, false)
	}
}

// Requested implements Subscription.
func (s *subscription) Requested(typeURL string, has bool) {
	if typeURL != TypeListener {
		return
	}
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	switch {
	case has:
		s.l.settle(s.id)
	case s.brought:
		s.l.hold(s.id)
	}
}

// answered hears that the proxy has accepted or refused resources.
func (s *subscription) answered(typeURL string) {
	if typeURL != TypeListener {
		return
	}
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.l.settle(s.id)
}
