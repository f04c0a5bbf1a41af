// Package meshloadbalancingstrategy chooses among the endpoints of a destination, within a zone and across zones (contract
// policies.md §3.9).
package meshloadbalancingstrategy

import (
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

// Spec is the body of a MeshLoadBalancingStrategy.
type Spec struct {
	policy.ToSpec[Conf]
}

// Conf says nothing about what it leaves out. Lists are told apart from absent ones when they are empty.
type Conf struct {
	// LoadBalancer is how an endpoint is chosen.
	LoadBalancer *LoadBalancer `json:"loadBalancer,omitempty"`
	// LocalityAwareness is which endpoints come first.
	LocalityAwareness *LocalityAwareness `json:"localityAwareness,omitempty"`
}

// LoadBalancer is an algorithm; the member that belongs to the Type holds its parameters.
type LoadBalancer struct {
	// Type is RoundRobin, LeastRequest, RingHash, Random or Maglev.
	Type         string        `json:"type" schema:"required"`
	LeastRequest *LeastRequest `json:"leastRequest,omitempty"`
	RingHash     *RingHash     `json:"ringHash,omitempty"`
	Maglev       *Maglev       `json:"maglev,omitempty"`
}

// LeastRequest picks the least busy of some endpoints.
type LeastRequest struct {
	// ChoiceCount is how many are compared, 2 when absent.
	ChoiceCount *uint32 `json:"choiceCount,omitempty"`
	// ActiveRequestBias are how much the number of active requests counts, a decimal fraction.
	ActiveRequestBias *resource.IntOrString `json:"activeRequestBias,omitempty"`
}

// RingHash is consistent hashing on a ring.
type RingHash struct {
	// HashFunction is XXHash, also when empty, or MurmurHash2.
	HashFunction string `json:"hashFunction,omitempty"`
	// MinRingSize is the least number of entries, 1024 when absent.
	MinRingSize *uint32 `json:"minRingSize,omitempty"`
	// MaxRingSize is the largest number of entries, 8388608 when absent.
	MaxRingSize *uint32 `json:"maxRingSize,omitempty"`
	// HashPolicies are what the hash is made of.
	HashPolicies []HashPolicy `json:"hashPolicies,omitzero"`
}

// Maglev is consistent hashing with a table.
type Maglev struct {
	// TableSize is a number of entries, 65537 when absent.
	TableSize *uint32 `json:"tableSize,omitempty"`
	// HashPolicies are what the hash is made of.
	HashPolicies []HashPolicy `json:"hashPolicies,omitzero"`
}

// HashPolicy is a source of the hash; the member that belongs to the Type tells what to take.
type HashPolicy struct {
	// Type is Header, Cookie, SourceIP, QueryParameter or FilterState; Connection may come from Kubernetes.
	Type string `json:"type" schema:"required"`
	// Terminal ends the list when this source gave a value.
	Terminal       *bool       `json:"terminal,omitempty"`
	Header         *Header     `json:"header,omitempty"`
	Cookie         *Cookie     `json:"cookie,omitempty"`
	Connection     *Connection `json:"connection,omitempty"`
	QueryParameter *Parameter  `json:"queryParameter,omitempty"`
	FilterState    *State      `json:"filterState,omitempty"`
}

// Header takes the value of a header.
type Header struct {
	// Name is the header.
	Name string `json:"name" schema:"required"`
}

// Cookie takes a cookie's value, and sets the cookie when there is a TTL and the request has none.
type Cookie struct {
	// Name is the cookie.
	Name string `json:"name" schema:"required"`
	// TTL is how long the cookie lives.
	TTL *resource.Duration `json:"ttl,omitempty"`
	// Path is the cookie's path.
	Path string `json:"path,omitempty"`
}

// Connection takes the client's address.
type Connection struct {
	// SourceIP takes the address when true.
	SourceIP *bool `json:"sourceIP,omitempty"`
}

// Parameter takes a parameter of the query.
type Parameter struct {
	// Name is the parameter.
	Name string `json:"name" schema:"required"`
}

// State takes an object of Envoy's filter state.
type State struct {
	// Key is the key of the object.
	Key string `json:"key" schema:"required"`
}

// LocalityAwareness prefers near endpoints.
type LocalityAwareness struct {
	// Disabled treats all endpoints alike.
	Disabled  *bool      `json:"disabled,omitempty"`
	LocalZone *LocalZone `json:"localZone,omitempty"`
	CrossZone *CrossZone `json:"crossZone,omitempty"`
}

// LocalZone prefers endpoints that share tags with the client.
type LocalZone struct {
	// AffinityTags are the tags, most important first.
	AffinityTags []AffinityTag `json:"affinityTags,omitzero"`
}

// AffinityTag is a tag to share; all tags of a list have a weight, or none.
type AffinityTag struct {
	// Key is the tag.
	Key string `json:"key" schema:"required"`
	// Weight is its share; without weights 90 percent, 9 percent and so on.
	Weight *uint32 `json:"weight,omitempty"`
}

// CrossZone says where traffic goes when the local zone is not enough.
type CrossZone struct {
	// Failover is rules in the order of their precedence.
	Failover []Failover `json:"failover,omitzero"`
	// FailoverThreshold is when traffic leaves the zone.
	FailoverThreshold *FailoverThreshold `json:"failoverThreshold,omitempty"`
}

// Failover is a rule for the zones of From, for all when it is absent.
type Failover struct {
	From *FromZone `json:"from,omitempty"`
	// To is the zones that traffic goes to.
	To ToZone `json:"to" schema:"required"`
}

// FromZone lists the zones of clients.
type FromZone struct {
	// Zones names of zones.
	Zones []string `json:"zones" schema:"required"`
}

// ToZone lists the zones of endpoints.
type ToZone struct {
	// Type is None, Only, Any or AnyExcept; Zones belong to Only and AnyExcept.
	Type string `json:"type" schema:"required"`
	// Zones names of zones.
	Zones []string `json:"zones,omitzero"`
}

// FailoverThreshold is the share of healthy local endpoints below which traffic leaves the zone.
type FailoverThreshold struct {
	// Percentage is above 0 and at most 100, a decimal fraction.
	Percentage resource.IntOrString `json:"percentage" schema:"required"`
}

// Values of the enumerations.
const (
	RoundRobin       = "RoundRobin"
	LeastRequestType = "LeastRequest"
	RingHashType     = "RingHash"
	Random           = "Random"
	MaglevType       = "Maglev"

	XXHash      = "XXHash"
	MurmurHash2 = "MurmurHash2"

	HashHeader         = "Header"
	HashCookie         = "Cookie"
	HashConnection     = "Connection"
	HashSourceIP       = "SourceIP"
	HashQueryParameter = "QueryParameter"
	HashFilterState    = "FilterState"

	ToNone      = "None"
	ToOnly      = "Only"
	ToAny       = "Any"
	ToAnyExcept = "AnyExcept"
)
