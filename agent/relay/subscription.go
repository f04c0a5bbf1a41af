package relay

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	status "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// The types of resources that the relay treats specially; all others pass by name like routes.
const (
	clusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	endpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	listenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	secretType   = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// wholeState says that a state-of-the-world answer of the type lists everything, so what is absent is removed.
func wholeState(typeURL string) bool { return typeURL == clusterType || typeURL == listenerType }

// held is one resource as the control plane (or the local identity) gave it. It is shared and never changed.
type held struct {
	version  string // hash of the content: the same whichever protocol and control plane it came from
	upstream string // the control plane's version of it; delta only
	body     *anypb.Any
}

func newHeld(body *anypb.Any, upstream string) held {
	sum := sha256.Sum256(body.GetValue())
	return held{version: hex.EncodeToString(sum[:8]), upstream: upstream, body: body}
}

// absent is the version in subscription.given of a name of which Envoy was told that it does not exist.
const absent = ""

// delivery is an answer to Envoy that it has not acknowledged.
type delivery struct {
	nonce    string
	versions map[string]string // what it carried
	removed  []string          // what it took away
	owed     []string          // the control plane's nonces to answer when Envoy has answered
}

// subscription is everything about one type of resource. The relay's lock guards it.
type subscription struct {
	typeURL string

	// What Envoy wants.
	wildcard bool
	names    map[string]struct{}

	// What there is.
	have     map[string]held
	answered bool                // the control plane has said something about the wildcard
	missing  map[string]struct{} // names about which the control plane keeps silent: as good as absent

	// keeps says whether Envoy keeps a resource that is no more for a while; nil for those that go at once.
	keeps func(name string) bool

	// What Envoy has been given on its present stream, by version.
	given    map[string]string
	greeted  bool // the wildcard has been answered on this stream
	inflight *delivery
	acked    bool              // Envoy has answered a first delivery of this type, on any stream
	refused  map[string]string // versions that Envoy rejected
	nack     *NACK

	// What the control plane is owed and has been told on its present stream.
	asked        map[string]struct{}
	askedAny     bool // a first request has been sent
	answeredHere bool // on the present stream
	owed         []string
	withheld     []string // nonces that wait for a certificate of the authority that signs
	version      string   // of the last answer
	ackedVersion string   // of the last answer that Envoy accepted
	nonce        string   // of the last answer: state of the world only
}

func newSubscription(typeURL string) *subscription {
	return &subscription{
		typeURL: typeURL,
		names:   map[string]struct{}{}, have: map[string]held{}, missing: map[string]struct{}{},
		given: map[string]string{}, refused: map[string]string{}, asked: map[string]struct{}{},
	}
}

func (s *subscription) wants(name string) bool {
	_, ok := s.names[name]
	return ok || s.wildcard
}

// newStream forgets what belonged to the previous stream of Envoy.
func (s *subscription) newStream() {
	if s.inflight != nil && (len(s.owed) == 0 || s.typeURL == secretType) {
		s.owed = slices.Concat(s.inflight.owed, s.owed)
	}
	s.inflight, s.greeted, s.wildcard = nil, false, false
	clear(s.names)
	clear(s.given)
}

// next makes the answer that brings Envoy up to date, or nil when it is.
func (s *subscription) next() *deltaResponse {
	answer := &deltaResponse{typeURL: s.typeURL, version: s.version}
	offer := func(name string) {
		if r, ok := s.have[name]; ok && s.given[name] != r.version {
			answer.resources = append(answer.resources, deltaResource{name: name, version: r.version, body: r.body})
		}
	}
	names := s.names
	if s.wildcard {
		for _, name := range slices.Sorted(maps.Keys(s.have)) {
			offer(name)
		}
	} else {
		for _, name := range slices.Sorted(maps.Keys(names)) {
			offer(name)
		}
	}
	for name, version := range s.given {
		if _, ok := s.have[name]; !ok && version != absent && (s.keeps == nil || !s.keeps(name)) {
			answer.removed = append(answer.removed, name)
		}
	}
	for name := range names {
		_, has := s.have[name]
		_, told := s.given[name]
		_, missing := s.missing[name]
		if !has && !told && missing {
			answer.removed = append(answer.removed, name)
		}
	}
	slices.Sort(answer.removed)
	if len(answer.resources) == 0 && len(answer.removed) == 0 && (!s.wildcard || s.greeted || !s.answered) {
		return nil
	}
	return answer
}

// deliver notes that an answer is on its way to Envoy.
func (s *subscription) deliver(answer *deltaResponse, nonce string) {
	answer.nonce = nonce
	d := &delivery{nonce: nonce, versions: map[string]string{}, removed: answer.removed, owed: s.owed}
	for _, r := range answer.resources {
		s.given[r.name], d.versions[r.name] = r.version, r.version
	}
	for _, name := range answer.removed {
		delete(s.refused, name)
		if _, named := s.names[name]; named {
			s.given[name] = absent
		} else {
			delete(s.given, name)
		}
	}
	s.owed, s.inflight = nil, d
	if s.wildcard {
		s.greeted = true
	}
}

// settle takes Envoy's answer to the delivery in flight and returns the nonces that the control plane is owed, if any.
func (s *subscription) settle(detail *status.Status) (owed []string) {
	d := s.inflight
	s.inflight, s.acked = nil, true
	if detail == nil {
		for name := range d.versions {
			if _, ok := s.refused[name]; ok && s.nack.blanket {
				clear(s.refused) // which of them it was is not known: one has been repaired
			}
			delete(s.refused, name)
		}
		return d.owed
	}
	bad := blamed(d.versions, detail.GetMessage())
	s.nack = &NACK{At: time.Now(), Detail: detail.GetMessage(), Resources: slices.Sorted(maps.Keys(d.versions)), code: detail.GetCode(), blanket: len(bad) == 0}
	if len(bad) == 0 {
		bad = d.versions
	}
	maps.Copy(s.refused, bad)
	return d.owed
}

// blamed are the resources that a refusal names. Envoy refuses clusters and listeners one by one, keeps the others, and
// says which in its text only.
func blamed(versions map[string]string, detail string) map[string]string {
	bad := map[string]string{}
	for name, version := range versions {
		for rest := detail; name != ""; {
			before, after, found := strings.Cut(rest, name)
			if !found {
				break
			}
			if !endsInWord(before) && !startsWithWord(after) {
				bad[name] = version
				break
			}
			rest = after
		}
	}
	return bad
}

func wordByte(c byte) bool {
	return c == '_' || c == '-' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}
func endsInWord(s string) bool     { return s != "" && wordByte(s[len(s)-1]) }
func startsWithWord(s string) bool { return s != "" && wordByte(s[0]) }

// verdict is what the control plane must be told about what is held now: nil when Envoy has not refused any of it.
func (s *subscription) verdict() *status.Status {
	if s.nack == nil {
		return nil
	}
	for name, version := range s.refused {
		if r, ok := s.have[name]; ok && r.version == version {
			return &status.Status{Code: s.nack.code, Message: s.nack.Detail}
		}
	}
	clear(s.refused)
	return nil
}
