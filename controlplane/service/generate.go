package service

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// ManagedBy is the value of kuma.io/managed-by on generated MeshServices.
const ManagedBy = "meshservice-generator"

const maxName = 253

// member is what one Dataplane says about a service that it serves.
type member struct {
	created time.Time
	name    string
	ports   []resource.ServicePort
}

// membersOf returns what a Dataplane says, by kuma.io/service. Inbounds that take no traffic, now or ever, count too: the
// service is there, without endpoints (contract effects-security.md §1.1).
func membersOf(r *resource.Resource) map[string]member {
	n := r.Spec.(*resource.Dataplane).Networking
	if n == nil {
		return nil
	}
	out := map[string]member{}
	for _, in := range n.Inbound {
		tag := in.Tags[resource.TagService]
		if !isName(tag) {
			continue
		}
		p := resource.ServicePort{
			Name: in.Name, Port: in.Port, TargetPort: resource.IntOrString{Int: in.Port}, AppProtocol: cmp.Or(in.Tags[resource.TagProtocol], "tcp"),
		}
		m := out[tag]
		m.created, m.name = r.CreationTime, r.Name
		m.add(p)
		out[tag] = m
	}
	return out
}

// add appends a port, unless its number is there already (on another address). Names are sections, and unique: a port
// whose name is taken is called by its number.
func (m *member) add(p resource.ServicePort) {
	taken := func(name string) bool {
		return slices.ContainsFunc(m.ports, func(q resource.ServicePort) bool { return q.Name == name })
	}
	if p.Name == "" || taken(p.Name) {
		p.Name = ""
		p.Name = p.Section()
	}
	if taken(p.Name) || slices.ContainsFunc(m.ports, func(q resource.ServicePort) bool { return q.Port == p.Port }) {
		return
	}
	m.ports = append(m.ports, p)
}

// isName tells whether a value of kuma.io/service can be the name of an object; others are skipped.
func isName(s string) bool {
	return s != "" && len(s) <= maxName && strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && r != '.' && r != '-' && r != '_'
	}) < 0
}

func managed(r *resource.Resource) bool { return r.Labels[resource.LabelManagedBy] == ManagedBy }

func samePorts(a, b []resource.ServicePort) bool {
	byPort := func(a, b resource.ServicePort) int { return cmp.Compare(a.Port, b.Port) }
	return slices.Equal(slices.SortedFunc(slices.Values(a), byPort), slices.SortedFunc(slices.Values(b), byPort))
}

// decision is what should become of the MeshService of one kuma.io/service.
type decision struct {
	op store.Op // the zero Op: nothing
	// due is when to look again, zero for not by itself.
	due time.Time
	// blocked: an object that is not generated has the name.
	blocked bool
	// conflicting are the Dataplanes whose ports are not those of the object, sorted.
	conflicting []string
}

// decide follows contract policies.md §2.1 "Generation, universal". Members are in any order, enabled says that the mesh
// uses MeshServices, and stored is the object as it is now, nil when there is none.
func decide(key resource.Key, members []member, enabled bool, stored *resource.Resource, now time.Time, grace time.Duration) decision {
	switch {
	case stored != nil && !managed(stored):
		return decision{blocked: enabled && len(members) > 0}
	case !enabled && stored != nil:
		return decision{op: store.Op{Action: store.Delete, Resource: stored}}
	case !enabled:
		return decision{}
	case len(members) == 0 && stored != nil:
		return expire(stored, now, grace)
	case len(members) == 0:
		return decision{}
	}
	first := slices.MinFunc(members, func(a, b member) int {
		return cmp.Or(a.created.Compare(b.created), strings.Compare(a.name, b.name))
	})
	next := &resource.Resource{Meta: resource.Meta{Key: key}}
	spec := &resource.MeshService{State: resource.StateUnavailable, Ports: first.ports}
	if stored != nil {
		*next = *stored
		*spec = *stored.Spec.(*resource.MeshService)
		// The object stays as it is while any Dataplane agrees with it, so that a rollout of new ports does not take the old ones
		// away from those that still serve them.
		if !slices.ContainsFunc(members, func(m member) bool { return samePorts(m.ports, spec.Ports) }) {
			spec.Ports = first.ports
		}
	}
	spec.Selector = &resource.ServiceSelector{DataplaneTags: map[string]string{resource.TagService: key.Name}}
	next.Spec, next.Labels = spec, labels(key, next.Labels)
	d := decision{}
	for _, m := range members {
		if !samePorts(m.ports, spec.Ports) {
			d.conflicting = append(d.conflicting, m.name)
		}
	}
	slices.Sort(d.conflicting)
	switch {
	case stored == nil:
		d.op = store.Op{Action: store.Create, Resource: next}
	case !same(stored, next):
		d.op = store.Op{Action: store.Update, Resource: next}
	}
	return d
}

// expire stamps a service that has lost its last Dataplane, and deletes it when the grace period is over.
func expire(stored *resource.Resource, now time.Time, grace time.Duration) decision {
	started, err := time.Parse(time.RFC3339, stored.Labels[resource.LabelGraceStart])
	if err != nil {
		started = now.UTC().Truncate(time.Second) // what the label can say
		next := *stored
		next.Labels = maps.Clone(stored.Labels)
		next.Labels[resource.LabelGraceStart] = started.Format(time.RFC3339)
		return decision{op: store.Op{Action: store.Update, Resource: &next}, due: started.Add(grace)}
	}
	due := started.Add(grace)
	if now.Before(due) {
		return decision{due: due}
	}
	return decision{op: store.Op{Action: store.Delete, Resource: stored}}
}

// labels adds to the labels of an object those of a generated one, and ends its grace period. There is no kuma.io/zone
// among them (contract policies.md §1.6).
func labels(key resource.Key, have map[string]string) map[string]string {
	out := map[string]string{
		resource.LabelMesh: key.Mesh, resource.LabelDisplayName: key.Name, resource.LabelManagedBy: ManagedBy,
		resource.LabelEnv: resource.EnvUniversal, resource.LabelOrigin: resource.OriginZone,
	}
	maps.Copy(out, have)
	delete(out, resource.LabelGraceStart)
	return out
}

func same(a, b *resource.Resource) bool {
	x, y := a.Spec.(*resource.MeshService), b.Spec.(*resource.MeshService)
	return maps.Equal(a.Labels, b.Labels) && slices.Equal(x.Ports, y.Ports) &&
		x.Selector != nil && x.Selector.DataplaneRef == nil && maps.Equal(x.Selector.DataplaneTags, y.Selector.DataplaneTags)
}
