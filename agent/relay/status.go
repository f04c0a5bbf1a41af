package relay

import (
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
)

// NACK is a refusal by Envoy.
type NACK struct {
	At        time.Time `json:"at"`
	Detail    string    `json:"detail"`
	Resources []string  `json:"resources"`
	code      int32
	blanket   bool // Detail names none of Resources
}

// TypeStatus is the state of one type of resource.
type TypeStatus struct {
	// Version is the control plane's, of its last answer.
	Version string `json:"version"`
	// Resources counts what is held.
	Resources int `json:"resources"`
	// Acknowledged is true when Envoy has accepted all that is held.
	Acknowledged bool `json:"acknowledged"`
	// LastNACK is the latest refusal, also when a later answer was accepted; nil when there was none.
	LastNACK *NACK `json:"lastNack,omitempty"`
}

// Status is what the relay knows about itself at one moment.
type Status struct {
	ControlPlane string `json:"controlPlane"`
	// Connected is true while the control plane's stream has answered; Since is when it first did.
	Connected bool      `json:"connected"`
	Protocol  string    `json:"protocol,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	// Streams counts the streams that the control plane has answered.
	Streams int `json:"streams"`
	// LastError is why the last stream ended; "" while all is well.
	LastError  string `json:"lastError,omitempty"`
	Envoy      bool   `json:"envoyConnected"`
	Identity   string `json:"identity"`
	DNSLoaded  bool   `json:"dnsLoaded"`
	DNSRecords int    `json:"dnsRecords"`
	// Types is by type URL.
	Types map[string]TypeStatus `json:"types"`
}

// Status returns a snapshot.
func (r *Relay) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := Status{
		ControlPlane: r.cfg.Upstream.Target(), Connected: r.upProto != "", Protocol: r.upProto, Streams: r.upCount,
		LastError: r.upFailed, Envoy: r.envoy != nil, Identity: r.identity.String(),
		DNSLoaded: r.dns.loaded, DNSRecords: r.dns.records, Types: map[string]TypeStatus{},
	}
	if st.Connected {
		st.Since = r.upBegan
	}
	for typeURL, s := range r.subs {
		st.Types[typeURL] = TypeStatus{
			Version: s.version, Resources: len(s.have), LastNACK: s.nack,
			Acknowledged: s.acked && s.inflight == nil && s.verdict() == nil,
		}
	}
	return st
}

// Missing lists what Envoy still lacks before it can serve; empty when nothing. A first answer that Envoy refused in
// part counts as given: what it accepted serves, and one bad resource must not keep a workload out (demands.md F22).
func (r *Relay) Missing() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var missing []string
	for _, t := range []struct{ url, name string }{{clusterType, "clusters"}, {listenerType, "listeners"}} {
		if s := r.subs[t.url]; s == nil || !s.acked {
			missing = append(missing, "envoy has not acknowledged "+t.name)
		}
	}
	if s := r.subs[secretType]; s != nil {
		for _, name := range slices.Sorted(maps.Keys(s.names)) {
			if _, ok := s.have[name]; !ok {
				missing = append(missing, "secret "+name+" is not there")
			}
		}
	}
	if r.cfg.DNS != nil && !r.dns.loaded {
		missing = append(missing, "dns table is not loaded")
	}
	return missing
}

// identityMode says where the workload's certificate comes from.
type identityMode int

const (
	identityPending identityMode = iota
	identityLocal
	identityUpstream
)

func (m identityMode) String() string {
	return [...]string{"pending", "local", "control-plane"}[m]
}

// SetIdentity gives the Secret that answers Config.IdentitySecret from now on.
func (r *Relay) SetIdentity(secret *anypb.Any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.identity = identityLocal
	s := r.sub(secretType)
	s.have[r.cfg.IdentitySecret] = newHeld(secret, "")
	r.owe(s)
	r.ask(s)
	r.flush(s)
}

// IdentityFromControlPlane says that the control plane issues no certificates by CSR: its own secret passes to Envoy.
func (r *Relay) IdentityFromControlPlane() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.identity == identityUpstream {
		return
	}
	r.identity = identityUpstream
	s := r.sub(secretType)
	delete(s.have, r.cfg.IdentitySecret)
	r.owe(s)
	r.ask(s)
	r.flush(s)
}
