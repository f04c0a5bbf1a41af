package relay

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/agent/protofield"
)

// owe notes that the control plane is to hear of these answers when Envoy has taken what is held now. Of secrets it does
// not as long as the certificate is of another authority than the one that signs: it must be able to tell when the last
// certificate of an authority is gone. The caller holds the lock.
func (r *Relay) owe(s *subscription, nonces ...string) {
	if s.typeURL != secretType || r.upProto == protocolState { // a 2.9 control plane, which has made the certificate itself
		if len(nonces) > 0 {
			s.owed = nonces
		}
		return
	}
	if s.withheld = append(s.withheld, nonces...); r.current(s) {
		s.owed, s.withheld = append(s.owed, s.withheld...), nil
	}
}

// current tells whether the certificate is of the authority that signs, as far as we know that.
func (r *Relay) current(s *subscription) bool {
	if _, ok := s.have[r.cfg.TrustSecret]; !ok || r.cfg.Signer == nil || r.identity == identityUpstream {
		return true
	}
	return r.cfg.Signer(trustedCA(r.trust.body.GetValue()))
}

// accepted tells whether Envoy has a secret, and a certificate that goes with it.
func (r *Relay) accepted(s *subscription, name string) bool {
	version := s.have[name].version
	if s.given[name] != version || s.refused[name] == version || name == r.cfg.TrustSecret && !r.current(s) {
		return false
	}
	return s.inflight == nil || s.inflight.versions[name] != version
}

// trustedCA reads validation_context=4{trusted_ca=1{inline_bytes=2}} of a Secret; nil when it has none.
func trustedCA(secret []byte) []byte {
	for _, number := range []protowire.Number{4, 1, 2} {
		var found []byte
		if err := protofield.Each(secret, func(field protowire.Number, val []byte, _ uint64) error {
			if field == number {
				found = val
			}
			return nil
		}); err != nil {
			return nil
		}
		secret = found
	}
	return secret
}

// trusted is the Secret with the authorities that Envoy is to trust, of the one with those of the mesh. The caller holds the
// lock.
func (r *Relay) trusted(mesh held) held {
	bundle := trustedCA(mesh.body.GetValue())
	if r.cfg.Trust == nil || bundle == nil {
		return mesh
	}
	other := r.cfg.Trust(bundle)
	if bytes.Equal(other, bundle) {
		return mesh
	}
	body, err := withField(mesh.body.GetValue(), other, 4, 1, 2)
	if err != nil {
		return mesh // Envoy will say so
	}
	return newHeld(&anypb.Any{TypeUrl: mesh.body.GetTypeUrl(), Value: body}, mesh.upstream)
}

// TrustChanged has Config.Trust and Config.Signer asked again.
func (r *Relay) TrustChanged() {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.subs[secretType]
	if !ok {
		return
	}
	if _, ok := s.have[r.cfg.TrustSecret]; !ok {
		return
	}
	s.have[r.cfg.TrustSecret] = r.trusted(r.trust)
	r.owe(s)
	r.flush(s)
}

// withField is a message with other content in the field that path leads to; the fields beside it stay.
func withField(message, content []byte, field protowire.Number, path ...protowire.Number) ([]byte, error) {
	var out, inner []byte
	if err := protofield.Raw(message, func(number protowire.Number, val []byte, _ uint64, raw []byte) error {
		if number == field && val != nil {
			inner = val
		} else {
			out = append(out, raw...)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if len(path) > 0 {
		var err error
		if content, err = withField(inner, content, path[0], path[1:]...); err != nil {
			return nil, err
		}
	}
	return protowire.AppendBytes(protowire.AppendTag(out, field, protowire.BytesType), content), nil
}
