package xds

import (
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy/effect"
)

// secure notes that the peer has all secrets of a snapshot that it asked for. One that has asked for none needs none, once
// it has its listeners: after a reconnect it asks for everything before it answers anything.
func (st *stream) secure(snap *Snapshot, settled func(typeURL string, snap *Snapshot) (settled, asked bool)) {
	done, asked := settled(TypeSecret, snap)
	if !asked {
		done, _ = settled(TypeListener, snap)
	}
	if done && !st.refused.any(TypeSecret) {
		now := snap.get(TypeSecret)
		if before := st.secured.Swap(now); asked && st.own != nil && before != now {
			st.own()
		}
	}
}

// Secured tells whether a proxy has a stream, and whether it has acknowledged this trust bundle of a mesh. Then all of its
// certificates in the mesh are of the first authority of the bundle: those that are made here are sent with it, and an agent
// that has its own renews it before it acknowledges the bundle. A zone proxy that has nothing to do with the mesh counts as
// one that has.
func (s *Server) Secured(id topology.ProxyID, mesh string, bundle []byte) (connected, secured bool, err error) {
	b := &builder{}
	if err := addSecrets(b, mesh, bundle, nil); err != nil {
		return false, false, err
	}
	want := b.parts[0].Version
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.proxies[id]
	if p == nil {
		return false, false, nil
	}
	snap := p.snap.Load()
	if snap == nil {
		return true, false, nil
	}
	now := snap.get(TypeSecret)
	if trust := now.byName[effect.TrustSecret(mesh)]; trust == nil && id.Mesh != "" || trust != nil && trust.Version != want {
		return true, false, nil // it has not even been made yet
	}
	for st := range p.streams {
		last := st.secured.Load()
		if last == nil || last.version != now.version {
			return true, false, nil
		}
	}
	return true, true, nil
}
