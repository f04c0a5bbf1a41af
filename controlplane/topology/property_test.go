package topology

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

// TestIncremental edits a store at random and compares, after every batch of events, the World made by steps with one
// made from scratch, the indexes with indexes made from scratch, and the proxies that were not named as touched with an
// independent digest of everything that goes into their configuration.
func TestIncremental(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := memory.Open(registry())
		defer s.Close()
		_, w := s.Watch()
		defer w.Close()
		st := newState("zone-a")
		st.load(nil)
		for range rapid.IntRange(1, 25).Draw(rt, "batches") {
			before := st.world
			for range rapid.IntRange(1, 4).Draw(rt, "commits") {
				op := anyOp(rt)
				_, err := s.Commit(t.Context(), op) // one that is refused changes nothing
				_ = err
			}
			stored, again := s.Watch()
			again.Close()
			events := pending(t, s, w)
			c := st.apply(events)
			fresh := newState("zone-a")
			fresh.load(stored)
			if diff := cmp.Diff(dump(fresh.world), dump(st.world)); diff != "" {
				rt.Fatalf("world (-from scratch +by steps):\n%s", diff)
			}
			if diff := cmp.Diff(indexes(fresh), indexes(st)); diff != "" {
				rt.Fatalf("indexes (-from scratch +by steps):\n%s", diff)
			}
			sound(rt, before, c)
		}
	})
}

// pending returns the events that w has not handed out yet. A last commit makes sure that there are some.
func pending(t *testing.T, s store.Store, w store.Watcher) []store.Event {
	t.Helper()
	mark := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindConfig, Name: "mark"}}, Spec: &resource.Config{}}
	for _, action := range []store.Action{store.Create, store.Delete} {
		if _, err := s.Commit(t.Context(), store.Op{Action: action, Resource: mark}); err != nil {
			t.Fatal(err)
		}
	}
	events, err := w.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// sound checks that whoever is not touched has the same inputs as before.
func sound(rt *rapid.T, before *World, c Change) {
	for kind, list := range map[resource.Kind][]*resource.Resource{resource.KindZoneIngress: c.World.Zones.Ingresses, resource.KindZoneEgress: c.World.Zones.Egresses} {
		for _, r := range list {
			if c.Proxies[ProxyID{Name: r.Name}] != 0 {
				continue
			}
			if diff := cmp.Diff(zoneProxies(before, kind), zoneProxies(c.World, kind)); diff != "" {
				rt.Fatalf("zone proxy %v changed but is not touched:\n%s", r.Key, diff)
			}
		}
	}
	ids := map[ProxyID]bool{}
	for _, w := range []*World{before, c.World} {
		for mesh, m := range w.Meshes {
			for _, d := range m.Dataplanes {
				ids[ProxyID{mesh, d.Name}] = true
			}
		}
	}
	for id := range ids {
		scope := c.Proxies[id]
		if c.All[id.Mesh] || scope&ScopeFull != 0 {
			continue
		}
		endpoints := scope&ScopeEndpoints == 0
		if diff := cmp.Diff(digest(before, id, endpoints), digest(c.World, id, endpoints)); diff != "" {
			rt.Fatalf("proxy %v changed but is touched only as %d:\n%s", id, scope, diff)
		}
	}
}

// zoneProxies lists what the configuration of all zone proxies of a kind depends on.
func zoneProxies(w *World, kind resource.Kind) []string {
	var out []string
	for _, m := range w.Meshes {
		out = append(out, fmt.Sprint("mesh ", m.Name, m.Version))
		if kind == resource.KindZoneIngress {
			for _, s := range slices.Concat(m.Services, m.MultiZone) {
				out = append(out, fmt.Sprint(s.Key, s.Labels, s.Spec.Ports, s.Endpoints))
			}
			continue
		}
		for _, s := range m.External {
			out = append(out, fmt.Sprint(s.Key, s.Version))
		}
		for _, s := range m.Legacy {
			for _, r := range s.External {
				out = append(out, fmt.Sprint(s.Name, r.Key, r.Version))
			}
			out = append(out, fmt.Sprint(s.Name, w.Zones.RemoteLegacy(m.Name, s.Name)))
		}
		for _, list := range m.Policies {
			for _, r := range list {
				out = append(out, fmt.Sprint(r.Key, r.Version))
			}
		}
		for name, s := range m.Secrets {
			if name != "dataplane-token-signing-key" {
				out = append(out, fmt.Sprint("secret ", name, s.Version))
			}
		}
	}
	slices.Sort(out)
	return out
}

// digest lists what the configuration of a proxy depends on, found without the indexes.
func digest(w *World, id ProxyID, endpoints bool) []string {
	m := w.Meshes[id.Mesh]
	if m == nil || m.Dataplane(id.Name) == nil {
		return nil
	}
	d := m.Dataplane(id.Name)
	out := []string{fmt.Sprint("mesh ", m.Version, " dataplane ", d.Version)}
	for name, s := range m.Secrets {
		if name != "dataplane-token-signing-key" {
			out = append(out, fmt.Sprint("secret ", name, s.Version))
		}
	}
	used := map[resource.Key]*Service{}
	for _, o := range m.Outbounds(d) {
		used[o.Service.Key] = o.Service
		out = append(out, fmt.Sprint("outbound ", o.VIP, o.ListenPort, o.Service.Key, o.Port))
	}
	for _, e := range m.DirectEndpoints(d) {
		out = append(out, fmt.Sprint("direct ", e))
	}
	legacy := map[string]bool{}
	for _, o := range m.LegacyOutbounds(d) {
		name := o.Tags[resource.TagService]
		legacy[name] = true
		out = append(out, fmt.Sprint("legacy outbound ", o.Address, o.Port, o.Tags))
	}
	byTags := maps.Clone(legacy) // also what routes lead to
	direct := maps.Clone(used)
	about := func(r *resource.Resource) bool { // whether a `to` policy acts on one of the outbounds
		spec := r.Spec.(*testPolicy)
		if slices.ContainsFunc(spec.To, func(i testItem) bool { return legacy[i.TargetRef.Name] }) {
			return true
		}
		for _, s := range direct {
			if slices.ContainsFunc(spec.To, func(i testItem) bool { return isTo(i.TargetRef, s) }) {
				return true
			}
		}
		return false
	}
	for _, list := range m.Policies {
		for _, r := range list {
			if _, older := r.Spec.(resource.OlderPolicy); older || !chooses(r, d) {
				continue
			}
			if r.Kind == kindRoute && (m.Spec.ServicesMode() != resource.MeshServicesExclusive || len(r.Spec.(*testPolicy).To) == 0 || about(r)) {
				for _, item := range r.Spec.(*testPolicy).To {
					for _, rule := range item.Rules {
						for _, ref := range rule.BackendRefs {
							lead(m, ref, false, used, byTags)
						}
						if rule.Mirror != nil {
							lead(m, rule.Mirror.BackendRef, true, used, byTags)
						}
					}
				}
			}
		}
	}
	routed := maps.Clone(used)
	for _, list := range m.Policies {
		for _, r := range list {
			if older, ok := r.Spec.(resource.OlderPolicy); ok {
				if choosesByTags(older, d) {
					out = append(out, fmt.Sprint("older policy ", r.Key, r.Version))
				}
				continue
			}
			if !chooses(r, d) {
				continue
			}
			spec := r.Spec.(*testPolicy)
			if r.Labels[resource.LabelPolicyRole] == "producer" && r.Kind != kindTimeout && len(spec.From) == 0 && len(spec.To) > 0 &&
				m.Spec.ServicesMode() == resource.MeshServicesExclusive {
				concerned := slices.ContainsFunc(spec.To, func(i testItem) bool { return byTags[i.TargetRef.Name] })
				for _, s := range routed {
					concerned = concerned || slices.ContainsFunc(spec.To, func(i testItem) bool { return isTo(i.TargetRef, s) })
				}
				if !concerned {
					continue
				}
			}
			out = append(out, fmt.Sprint("policy ", r.Key, r.Version))
		}
	}
	for name := range byTags {
		s := m.LegacyService(name)
		if s == nil {
			continue
		}
		for _, r := range s.External {
			out = append(out, fmt.Sprint("external ", name, r.Key, r.Version))
		}
		out = append(out, fmt.Sprint("legacy ", name, s.VIP, s.Port, s.Ready, shape(s.Endpoints)))
		if endpoints {
			out = append(out, fmt.Sprint("legacy endpoints ", name, s.Endpoints))
		}
	}
	for _, s := range used {
		st := s.Status
		hosts := []string{}
		for _, a := range st.Addresses {
			hosts = append(hosts, a.Hostname)
		}
		out = append(out, fmt.Sprint("service ", s.Key, s.Labels, s.CreationTime, s.Spec.Ports, s.Spec.Identities, s.Spec.State, st.VIPs, hosts, tls(s)))
		for port, list := range s.Endpoints {
			out = append(out, fmt.Sprint("shape ", s.Key, port, shape(list)))
			for _, e := range list {
				if endpoints {
					out = append(out, fmt.Sprint("endpoint ", s.Key, port, e))
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

// lead adds what a backendRef may mean, whoever wrote it (contract effects-routing.md §3.2, §3.3).
func lead(m *Mesh, ref policy.BackendRef, mirror bool, used map[resource.Key]*Service, byTags map[string]bool) {
	tagged := mirror || !ref.Real()
	if tagged {
		byTags[ref.Name] = true
	}
	for _, s := range m.destinations() {
		named := slices.ContainsFunc(s.Spec.Ports, func(p resource.ServicePort) bool { return effect.Destination(s.Resource, p.Port) == ref.Name })
		if ref.Real() && isTo(ref.TargetRef, s) || tagged && named {
			used[s.Key] = s
		}
	}
}

// isTo tells whether a reference may mean s, whoever wrote it.
func isTo(ref policy.TargetRef, s *Service) bool {
	return ref.Kind == string(s.Kind) && mayMean(ref.Name, ref.Labels, s)
}

// chooses is contract policies.md §4.1 step 4, written a second time.
func chooses(r *resource.Resource, d *Dataplane) bool {
	if r.Labels[resource.LabelEffect] == "shadow" {
		return false
	}
	ref := r.Spec.(*testPolicy).Target()
	n := d.Spec.Networking
	kind := "Sidecar"
	sets := []map[string]string{}
	for _, in := range n.Inbound {
		if in.State != resource.InboundIgnored {
			sets = append(sets, in.Tags)
		}
	}
	if n.Gateway != nil {
		kind = "Gateway"
		sets = append(sets, n.Gateway.Tags)
	}
	want := maps.Clone(ref.Tags)
	switch ref.Kind {
	case policy.MeshService:
		want = map[string]string{resource.TagService: ref.Name}
	case policy.MeshHTTPRoute:
		return true
	}
	return (len(ref.ProxyTypes) == 0 || slices.Contains(ref.ProxyTypes, kind)) &&
		slices.ContainsFunc(sets, func(have map[string]string) bool {
			for k, v := range want {
				if have[k] == "" || v != "*" && have[k] != v {
					return false
				}
			}
			return true
		})
}

// choosesByTags is policy/older.Matches, written a second time.
func choosesByTags(p resource.OlderPolicy, d *Dataplane) bool {
	sets := []map[string]string{}
	for _, in := range d.Spec.Networking.Inbound {
		if in.State != resource.InboundIgnored {
			tags := maps.Clone(in.Tags)
			if tags[resource.TagZone] == "" {
				tags[resource.TagZone] = "zone-a"
			}
			sets = append(sets, tags)
		}
	}
	if g := d.Spec.Networking.Gateway; g != nil {
		sets = append(sets, g.Tags)
	}
	return slices.ContainsFunc(p.Proxies(), func(s resource.Selector) bool {
		return slices.ContainsFunc(sets, func(have map[string]string) bool {
			for k, v := range s.Match {
				if have[k] == "" || v != "*" && have[k] != v {
					return false
				}
			}
			return true
		})
	})
}

// dump is a World as plain data, with versions for contents.
func dump(w *World) map[string][]string {
	out := map[string][]string{}
	for name, m := range w.Meshes {
		l := []string{fmt.Sprint("mesh ", m.Name, m.Version, m.Spec.ServicesMode())}
		for _, d := range m.Dataplanes {
			l = append(l, fmt.Sprint("dataplane ", d.Name, d.Version, d.Insight.Online(), d.Identity(), d.inboundTags, d.Spec == d.Resource.Spec))
		}
		for _, s := range m.Services {
			l = append(l, fmt.Sprint("service ", s.Name, s.Version, s.Status.VIPs, len(s.Status.Addresses), s.Spec == s.Resource.Spec))
			for _, d := range s.Dataplanes {
				l = append(l, fmt.Sprint("member ", s.Name, d.Name, d.Version, d.Insight.Online(), d == m.Dataplane(d.Name)))
			}
			for _, port := range slices.Sorted(maps.Keys(s.Endpoints)) {
				l = append(l, fmt.Sprint("endpoints ", s.Name, port, s.Endpoints[port]))
			}
		}
		for _, s := range m.MultiZone {
			l = append(l, fmt.Sprint("multi zone ", s.Name, s.Version, s.Status.VIPs, s.Spec.Ports, s.Spec.Identities, s == m.Destination(s.Key)))
			for _, member := range s.Members {
				l = append(l, fmt.Sprint("member ", s.Name, member.Name, member.Version, member == m.Service(member.Name)))
			}
			for _, port := range slices.Sorted(maps.Keys(s.Endpoints)) {
				l = append(l, fmt.Sprint("endpoints ", s.Name, port, s.Endpoints[port]))
			}
		}
		for _, s := range m.External {
			l = append(l, fmt.Sprint("external ", s.Name, s.Version, s.Status.VIPs, s.Spec.Ports, s.Endpoints, s == m.Destination(s.Key)))
		}
		for _, s := range m.Legacy {
			l = append(l, fmt.Sprint("legacy ", *s))
		}
		for _, kind := range slices.Sorted(maps.Keys(m.Policies)) {
			for _, r := range m.Policies[kind] {
				l = append(l, fmt.Sprint("policy ", r.Key, r.Version))
			}
		}
		for _, n := range slices.Sorted(maps.Keys(m.Secrets)) {
			l = append(l, fmt.Sprint("secret ", n, m.Secrets[n].Version))
		}
		for _, d := range m.Dataplanes {
			for _, o := range m.Outbounds(d) {
				l = append(l, fmt.Sprint("outbound ", d.Name, o.VIP, o.ListenPort, o.Service.Key, o.Service == m.Destination(o.Service.Key)))
			}
		}
		for _, d := range m.Dataplanes {
			for _, o := range m.LegacyOutbounds(d) {
				l = append(l, fmt.Sprint("legacy outbound ", d.Name, o.Address, o.Port, o.Tags, o.Service == m.LegacyService(o.Tags[resource.TagService])))
			}
		}
		for _, r := range w.Services(name) {
			l = append(l, fmt.Sprint("resource ", r.Key, r == m.Destination(r.Key).Resource))
		}
		out[name] = l
	}
	for _, r := range slices.Concat(w.Zones.Ingresses, w.Zones.Egresses, w.Zones.Zones) {
		out[""] = append(out[""], fmt.Sprint(r.Key, r.Version))
	}
	return out
}

// indexes is all of the mutable state, as plain data.
func indexes(s *state) map[string]any {
	out := map[string]any{}
	for name, m := range s.meshes {
		x := m.ix
		owners := slices.Sorted(maps.Keys(x.routes.of))
		out[name] = []any{
			x.proxies, x.byTag, x.byRef, x.byLabel, x.byVIP, x.legacy.vips, x.legacy.open, x.legacy.listed, x.legacy.byHand, x.legacy.direct, x.open, x.reach.names, x.reach.labels, x.routes.refs.names, x.routes.refs.labels, x.routes.legacy, x.routes.clusters, owners,
			slices.Sorted(maps.Keys(x.insights)),
		}
	}
	return map[string]any{"": plain(out)}
}

// plain turns keys of struct type into strings, which cmp can sort.
func plain(v any) any {
	rv := reflect.ValueOf(v)
	switch rv.Kind() {
	case reflect.Map:
		out := map[string]any{}
		for it := rv.MapRange(); it.Next(); {
			out[fmt.Sprint(it.Key().Interface())] = plain(it.Value().Interface())
		}
		return out
	case reflect.Slice:
		out := []any{}
		for i := range rv.Len() {
			out = append(out, plain(rv.Index(i).Interface()))
		}
		return out
	default:
		return v
	}
}

// TestConcurrent lets several goroutines edit a store at once while a Tracker follows it, and compares its last World
// with one made from scratch.
func TestConcurrent(t *testing.T) {
	s := memory.Open(registry())
	defer s.Close()
	gen := rapid.Custom(anyOp)
	tr, stop := start(t, s)
	defer stop()
	var seen uint64
	order := true
	cancel := tr.Subscribe(func(c Change) {
		order, seen = order && c.World.Revision >= seen && tr.Current() == c.World, c.World.Revision
	})
	defer cancel()
	var wg sync.WaitGroup
	for writer := range 4 {
		wg.Go(func() {
			for i := range 300 {
				_, err := s.Commit(t.Context(), gen.Example(1000*writer+i))
				_ = err // refused when the mesh is missing, or what is to be deleted is not there
			}
		})
	}
	wg.Wait()
	last := put1(t, s, &resource.Resource{Meta: resource.Meta{Key: key(resource.KindMesh, "last")}, Spec: &resource.Mesh{}})
	stored, w := s.Watch()
	w.Close()
	want := dump(Build("zone-a", stored...))
	// Lost identities are accepted for a while.
	await(t, tr, func(w *World) bool { return w.Revision >= last.Version && cmp.Equal(want, dump(w)) })
	stop() // so that order may be read
	if diff := cmp.Diff(want, dump(tr.Current())); diff != "" {
		t.Errorf("world (-from scratch +by steps):\n%s", diff)
	}
	if !order {
		t.Error("changes came out of order, or before Current")
	}
}
