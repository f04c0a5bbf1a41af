package relay

import "google.golang.org/protobuf/encoding/protowire"

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
	bundle, ok := s.have[r.cfg.TrustSecret]
	if !ok || r.cfg.Signer == nil || r.identity == identityUpstream {
		return true
	}
	return r.cfg.Signer(trustedCA(bundle.body.GetValue()))
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
		if err := eachField(secret, func(field protowire.Number, val []byte, _ uint64) error {
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
