package relay

import (
	"cmp"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kuma-dp/kuma-dp/agent/protofield"
)

// observabilityListener tells an agent what a MeshMetric policy says, in the body of its only answer (contract agent.md
// §4.5). Envoy serves it on a socket; here it is read as it passes, which is an event instead of a question every 10 s.
const observabilityListener = "_kuma:dynamicconfig:observability"

// The listener that answers GET /dns on a unix socket: its name since version 3, and that of 2.10 to 2.13 (contract dns.md
// §3.2).
const (
	dynamicConfig3  = "system_dynamicconfig"
	dynamicConfig2x = "_kuma:dynamicconfig"
)

// observeDynamic tells Config.DynamicConfig when that listener has changed. The caller holds the lock.
func (r *Relay) observeDynamic(s *subscription) {
	if r.cfg.DynamicConfig == nil || s.typeURL != listenerType {
		return
	}
	version := cmp.Or(s.have[dynamicConfig3].version, s.have[dynamicConfig2x].version)
	if version != r.dynamic {
		r.dynamic = version
		r.cfg.DynamicConfig(version != absent)
	}
}

// observe tells Config.Observability when the body is another one than before. The caller holds the lock.
func (r *Relay) observe(s *subscription) {
	if r.cfg.Observability == nil || s.typeURL != listenerType {
		return
	}
	l := s.have[observabilityListener]
	if l.version == r.observed {
		return
	}
	r.observed = l.version
	if l.version == absent {
		r.cfg.Observability(nil)
		return
	}
	body, err := directAnswer(l.body.GetValue())
	if err != nil {
		r.log.Warn("metrics stay as they were: the listener that configures them cannot be read", "listener", observabilityListener, "reason", err.Error())
		return
	}
	r.cfg.Observability(body)
}

// directAnswer reads the body that an HTTP listener answers with: Listener.filter_chains(3).filters(3).typed_config(4).value(2)
// → HttpConnectionManager.route_config(4).virtual_hosts(2).routes(3).direct_response(7).body(2).inline_string(3). It is
// empty when there is none.
func directAnswer(listener []byte) ([]byte, error) {
	body := []byte{}
	err := protofield.At(listener, func(hcm []byte) error {
		return protofield.At(hcm, func(text []byte) error { body = text; return nil }, []protowire.Number{4, 2, 3, 7, 2, 3}...)
	}, []protowire.Number{3, 3, 4, 2}...)
	return body, err
}
