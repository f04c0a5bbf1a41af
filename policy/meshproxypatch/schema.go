// Package meshproxypatch changes what Envoy is told by hand, after everything else (contract policies.md §3.16).
package meshproxypatch

import (
	"encoding/json"

	"github.com/kuma-dp/kuma-dp/policy"
)

// Spec is the body of a MeshProxyPatch.
type Spec struct {
	policy.SingleSpec[Conf]
	// native is nil when nobody can tell what Envoy understands.
	native Native
}

// Conf is the list of changes, which run in its order.
type Conf struct {
	// AppendModifications lists of several policies are joined.
	AppendModifications []Modification `json:"appendModifications,omitempty"`
}

// Modification is one change: exactly one field is set.
type Modification struct {
	Cluster       *Cluster     `json:"cluster,omitempty"`
	Listener      *Listener    `json:"listener,omitempty"`
	NetworkFilter *Filter      `json:"networkFilter,omitempty"`
	HTTPFilter    *Filter      `json:"httpFilter,omitempty"`
	VirtualHost   *VirtualHost `json:"virtualHost,omitempty"`
}

// Change is what to do with the selected resources.
type Change struct {
	// Operation is one of the Op constants: Add, Remove and Patch; for filters the four additions, Remove and Patch.
	Operation string `json:"operation,omitempty"`
	// Value is an Envoy resource in YAML: what is added, or with Patch what is merged into the selected resources.
	Value *string `json:"value,omitempty"`
	// JSONPatches belong to Patch, instead of Value.
	JSONPatches []JSONPatch `json:"jsonPatches,omitempty"`
}

// JSONPatch is one operation of RFC 6902.
type JSONPatch struct {
	// Op is add, remove, replace, move or copy.
	Op string `json:"op,omitempty"`
	// Path is a JSON pointer into the resource.
	Path string `json:"path,omitempty"`
	// From belongs to move and copy.
	From string `json:"from,omitempty"`
	// Value belongs to add and replace.
	Value json.RawMessage `json:"value,omitempty"`
}

// Cluster changes clusters.
type Cluster struct {
	Change
	Match *ClusterMatch `json:"match,omitempty"`
}

// ClusterMatch selects clusters; an empty field selects all, as in the other matches.
type ClusterMatch struct {
	// Origin says who made the resource, such as "inbound" (contract effects-security.md §10).
	Origin string `json:"origin,omitempty"`
	// Name is the cluster's.
	Name string `json:"name,omitempty"`
}

// Listener changes listeners.
type Listener struct {
	Change
	Match *ListenerMatch `json:"match,omitempty"`
}

// ListenerMatch selects listeners.
type ListenerMatch struct {
	// Origin says who made the listener.
	Origin string `json:"origin,omitempty"`
	// Name is the listener's.
	Name string `json:"name,omitempty"`
	// Tags are those of the inbound behind the listener.
	Tags map[string]string `json:"tags,omitempty"`
}

// Filter changes network filters of listeners, or HTTP filters of their connection managers.
type Filter struct {
	Change
	Match *FilterMatch `json:"match,omitempty"`
}

// FilterMatch selects filters.
type FilterMatch struct {
	// Origin, ListenerName and ListenerTags select the listener.
	Origin string `json:"origin,omitempty"`
	// Name is the filter's.
	Name string `json:"name,omitempty"`
	// ListenerName is the listener's.
	ListenerName string `json:"listenerName,omitempty"`
	// ListenerTags are those of the inbound behind the listener.
	ListenerTags map[string]string `json:"listenerTags,omitempty"`
}

// VirtualHost changes virtual hosts of HTTP routes.
type VirtualHost struct {
	Change
	Match *VirtualHostMatch `json:"match,omitempty"`
}

// VirtualHostMatch selects virtual hosts.
type VirtualHostMatch struct {
	// Origin selects the listener.
	Origin string `json:"origin,omitempty"`
	// Name is the virtual host's.
	Name string `json:"name,omitempty"`
	// RouteConfigurationName is the route configuration's.
	RouteConfigurationName string `json:"routeConfigurationName,omitempty"`
}

// Values of Change.Operation.
const (
	OpAdd       = "Add"
	OpRemove    = "Remove"
	OpPatch     = "Patch"
	OpAddFirst  = "AddFirst"
	OpAddLast   = "AddLast"
	OpAddBefore = "AddBefore"
	OpAddAfter  = "AddAfter"
)

// Targets are the fields of Modification and name the Envoy resource that a Value is.
const (
	TargetCluster       = "cluster"
	TargetListener      = "listener"
	TargetNetworkFilter = "networkFilter"
	TargetHTTPFilter    = "httpFilter"
	TargetVirtualHost   = "virtualHost"
)
