package xds

import (
	"maps"
	"reflect"
	"slices"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// made is what a snapshot was made from and what was made on the way, so that the next one of the proxy makes again only
// what a change touches. It is immutable once the snapshot is there, and holds no picture of the mesh.
type made struct {
	basis  basis
	common string // fingerprints.common
	byTags reaching
	whole  bool // work.whole
	rules  map[resource.Kind]*policy.Rules

	outbounds []topology.Outbound
	legacy    []topology.LegacyOutbound
	// lanes are those of outbounds, then those of legacy.
	lanes []lane
	// uses are the clusters that the lanes lead to, each once.
	uses []*use

	inbounds []inboundPart

	fixed []part       // what depends on the basis alone
	dns   []part       // what depends on the basis and the outbounds
	names *effect.Page // the table of names, instead of dns, for an agent that asks for pages
	// paged serves pages.
	pages []effect.Page
	paged *part
	// passing is what catches what passes by, when policies want to see it.
	passing []part
	// applied is what the effects of kinds added.
	applied map[resource.Kind]*applied
	patches *patches
}

// lane is what was made of one outbound.
type lane struct {
	listener *Resource // nil when nothing is reachable by it
	uses     []*use
	// routing is nil when no policy was asked where it leads.
	routing *knownRouting
}

// use is a cluster that outbounds lead to, with its endpoints. It is shared between proxies, and immutable once it is
// remembered.
type use struct {
	ref backendRef
	// service, or else legacy, is what it was made from.
	service *topology.Service
	legacy  *topology.LegacyService
	// indirect: by tags, without an outbound of its own. external: straight to the outside, by tags.
	indirect, external bool

	cluster   *Resource
	endpoints *Resource // nil when the cluster has them
	secured   bool
}

// applied is what the effect of a kind added to a proxy, and what it warned of.
type applied struct {
	parts    []part
	pages    []effect.Page
	warnings []string
}

// basis is what a proxy has from elsewhere than policies and services.
type basis struct {
	mesh, dataplane *resource.Resource
	zone, domain    string
	shown           bool
	meta            Meta
	admin           *AdminTLS
}

func basisOf(in *Input) basis {
	return basis{in.Mesh.Resource, in.Dataplane.Resource, in.Zone, in.Domain, in.Shown, in.Meta, in.Admin}
}

func (b *basis) equal(o *basis) bool {
	return b.mesh == o.mesh && b.dataplane == o.dataplane && b.zone == o.zone && b.domain == o.domain && b.shown == o.shown &&
		reflect.DeepEqual(b.meta, o.meta) && reflect.DeepEqual(b.admin, o.admin)
}

// earlier is what a former snapshot can give to the next one.
type earlier struct {
	*made
	// samePassing and sameInbounds say that policies say the same of these, sameLanes that lanes can be compared at all. Then stale
	// are the services of which policies say something else, and changed the kinds that do; scoped says that one of these has
	// rules for single routes.
	sameBasis, sameOutbounds, samePassing, sameInbounds, sameLanes, sameByTags bool

	stale   map[resource.Key]bool
	changed []resource.Kind
	scoped  bool
	// at is where the next lane should be.
	at int
}

// compare finds what w has in common with an earlier snapshot. The result has nothing when there is none.
func (w *work) compare(before *Snapshot) *earlier {
	e := &earlier{made: &made{}}
	if before == nil || before.made == nil {
		return e
	}
	e.made = before.made
	e.sameBasis = e.made.basis.equal(&w.made.basis)
	e.sameOutbounds = slices.Equal(e.made.outbounds, w.made.outbounds) && slices.EqualFunc(e.made.legacy, w.made.legacy, sameLegacy)
	e.samePassing = e.sameBasis && !w.whole && len(e.made.passing) > 0
	e.sameLanes = e.sameBasis && e.made.common == w.made.common && !w.whole && !e.made.whole
	e.sameByTags = e.made.byTags == w.made.byTags
	e.sameInbounds = e.sameLanes && e.sameByTags
	e.stale = map[resource.Key]bool{}
	for _, k := range w.g.effects {
		old, now := e.made.rules[k.Kind], w.in.Rules[k.Kind]
		if old == now {
			continue
		}
		e.samePassing = e.samePassing && !k.Passthrough
		if k.Patch != nil {
			continue
		}
		e.sameInbounds = e.sameInbounds && now.SameFrom(old)
		services, all := now.Unlike(old)
		maps.Copy(e.stale, services)
		byCluster := k.Route != nil && !(old.Plain() && now.Plain())
		e.sameLanes = e.sameLanes && !all && !byCluster
		e.changed = append(e.changed, k.Kind)
		e.scoped = e.scoped || old.RouteScoped() || now.RouteScoped()
	}
	return e
}

func sameLegacy(a, b topology.LegacyOutbound) bool {
	return a.Address == b.Address && a.Port == b.Port && a.Service == b.Service && maps.Equal(a.Tags, b.Tags)
}

// sameRules tells whether a kind says the same as before, and nothing else has changed that its effect may add to the proxy.
func (w *work) sameRules(e effect.Kind) bool {
	before := w.earlier
	return before.sameBasis && !w.whole && before.rules[e.Kind] == w.in.Rules[e.Kind] && (!e.Passthrough || before.samePassing)
}
