package hostname

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"

	"github.com/kuma-dp/kuma-dp/controlplane/service/writeback"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	// DefaultLegacyCIDR is where the addresses of kuma.io/service values come from (contract dns.md §2.1). It contains the
	// ranges of the other kinds, which are met only after sixteen million services of one mesh.
	DefaultLegacyCIDR = "240.0.0.0/4"
	// DefaultLegacyPort is the port that every such address has.
	DefaultLegacyPort = 80
	// serviceless is the inbound port of a workload that serves nothing.
	serviceless = 49151
	// originService says that an entry comes from a value of kuma.io/service.
	originService = "service"
)

// legacy gives every kuma.io/service of a mesh an address, whose only record is one Config for each mesh (contract
// dns.md §2.4). Meshes share nothing: two may use one address. In mode Exclusive nobody has outbounds to such addresses;
// the record is left as it is, so that the way back finds the same ones.
type legacy struct {
	store  store.Store
	log    *slog.Logger
	zone   string
	prefix netip.Prefix
	port   uint32

	meshes map[string]*legacyMesh
	dirty  map[string]bool
}

type legacyMesh struct {
	// mode is empty while there is no Mesh.
	mode string
	// owners of every kuma.io/service: those who serve it.
	owners map[string]map[resource.Key]bool
	// cursor is where the search for a free address goes on.
	cursor netip.Addr
	// starved is how many services were without address when it was last logged.
	starved int
	// record is what was last read or made, and text how it is stored: most often nobody else has written it.
	record resource.ServiceVIPs
	text   string
}

func newLegacy(s store.Store, zone string, prefix netip.Prefix, port uint32, log *slog.Logger) *legacy {
	return &legacy{
		store: s, zone: zone, prefix: prefix, port: port, log: log,
		meshes: map[string]*legacyMesh{}, dirty: map[string]bool{},
	}
}

func (l *legacy) run(ctx context.Context) error {
	stored, w := l.store.Watch()
	defer w.Close()
	for _, r := range stored {
		l.take(nil, r)
	}
	for {
		err := l.write(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrClosed):
			return fmt.Errorf("assign addresses of kuma.io/service: %w", err)
		case err != nil:
			l.log.Error("could not write addresses of kuma.io/service", "meshes", len(l.dirty), "retry", retryAfter, "error", err)
		}
		events, err := next(ctx, w, len(l.dirty) > 0)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("follow the store: %w", err)
		}
		for _, ev := range events {
			l.take(ev.Old, ev.New)
		}
	}
}

func (l *legacy) mesh(name string) *legacyMesh {
	m := l.meshes[name]
	if m == nil {
		m = &legacyMesh{owners: map[string]map[resource.Key]bool{}, cursor: l.prefix.Addr()}
		l.meshes[name] = m
	}
	return m
}

// take hears of a change, or (old nil) of what is stored.
func (l *legacy) take(old, now *resource.Resource) {
	r := now
	if r == nil {
		r = old
	}
	switch r.Kind {
	case resource.KindMesh:
		mode := ""
		if now != nil {
			mode = resource.SpecOf[*resource.Mesh](now).ServicesMode()
		}
		if m := l.mesh(r.Name); m.mode != mode {
			m.mode = mode
			l.dirty[r.Name] = true
		}
	case resource.KindConfig:
		// Also our own writes come by here, which then leave nothing to do.
		if mesh, ok := resource.MeshOfServiceVIPs(r.Name); ok {
			l.mesh(mesh)
			l.dirty[mesh] = true
		}
	case resource.KindDataplane, resource.KindZoneIngress, resource.KindExternalService:
		l.own(r.Key, l.served(old), l.served(now))
	}
}

// serviceTag is one value of kuma.io/service.
type serviceTag struct{ mesh, name string }

// served lists what a Dataplane, an ExternalService or the ZoneIngress of another zone serves.
func (l *legacy) served(r *resource.Resource) map[serviceTag]bool {
	out := map[serviceTag]bool{}
	if r == nil {
		return out
	}
	add := func(mesh string, tags map[string]string) {
		if name := tags[resource.TagService]; name != "" {
			out[serviceTag{mesh, name}] = true
		}
	}
	switch spec := r.Spec.(type) {
	case *resource.Dataplane:
		if spec.Networking == nil {
			return out
		}
		for _, in := range spec.Networking.Inbound {
			if in.State != resource.InboundIgnored && in.Port != serviceless {
				add(r.Mesh, in.Tags)
			}
		}
	case *resource.ExternalService:
		add(r.Mesh, spec.Tags)
	case *resource.ZoneIngress:
		if spec.Zone == "" || spec.Zone == l.zone {
			return out // its services have their Dataplanes here
		}
		for _, s := range spec.AvailableServices {
			add(s.Mesh, s.Tags)
		}
	}
	return out
}

func (l *legacy) own(owner resource.Key, before, after map[serviceTag]bool) {
	for s := range before {
		if after[s] {
			continue
		}
		m := l.mesh(s.mesh)
		delete(m.owners[s.name], owner)
		if len(m.owners[s.name]) == 0 {
			delete(m.owners, s.name)
			l.dirty[s.mesh] = true
		}
	}
	for s := range after {
		m := l.mesh(s.mesh)
		if m.owners[s.name] == nil {
			m.owners[s.name] = map[resource.Key]bool{}
			l.dirty[s.mesh] = true
		}
		m.owners[s.name][owner] = true
	}
}

func configKey(mesh string) resource.Key {
	return resource.Key{Kind: resource.KindConfig, Name: resource.ServiceVIPsName(mesh)}
}

// write brings the records of the dirty meshes in line.
func (l *legacy) write(ctx context.Context) error {
	meshes := map[resource.Key]string{}
	for name := range l.dirty {
		switch m := l.meshes[name]; {
		case m.mode == "" && len(m.owners) == 0: // the record went with the Mesh
			delete(l.meshes, name)
			delete(l.dirty, name)
		case m.mode != "" && m.mode != resource.MeshServicesExclusive:
			meshes[configKey(name)] = name
		}
	}
	err := writeback.Commit(ctx, l.store, slices.SortedFunc(maps.Keys(meshes), compare),
		func(key resource.Key, stored *resource.Resource) store.Op { return l.decide(meshes[key], stored) })
	if err == nil {
		clear(l.dirty)
	}
	return err
}

// decide says what is to become of the record of a mesh.
func (l *legacy) decide(mesh string, stored *resource.Resource) store.Op {
	var old *resource.Config
	if stored != nil {
		old = resource.SpecOf[*resource.Config](stored)
	}
	m := l.mesh(mesh)
	if old == nil || old.Config != m.text || m.text == "" {
		have, err := resource.ParseServiceVIPs(old)
		if err != nil {
			l.log.Error("the record of the addresses of kuma.io/service is damaged: all get new ones", "mesh", mesh, "record", stored.Name, "error", err)
		}
		m.record, m.text = have, ""
		if err == nil && old != nil {
			m.text = old.Config
		}
	}
	record := l.assign(mesh, m.record)
	spec, err := record.Encode()
	if err == nil {
		m.record, m.text = record, spec.Config
	}
	switch {
	case err != nil: // a map of strings and numbers
		l.log.Error("could not write the addresses of kuma.io/service", "mesh", mesh, "error", err)
		return store.Op{}
	case stored == nil && len(l.meshes[mesh].owners) == 0:
		return store.Op{}
	case stored == nil:
		return store.Op{
			Action: store.Create, Owner: resource.Key{Kind: resource.KindMesh, Name: mesh},
			Resource: &resource.Resource{Meta: resource.Meta{Key: configKey(mesh)}, Spec: spec},
		}
	case old.Config == spec.Config:
		return store.Op{}
	}
	updated := *stored
	updated.Spec = spec
	return store.Op{Action: store.Update, Resource: &updated}
}

// assign returns the addresses that a mesh should have: those of before for services that are still there, free ones for
// new services. Entries that are not of services are kept as they are.
func (l *legacy) assign(mesh string, have resource.ServiceVIPs) resource.ServiceVIPs {
	m := l.mesh(mesh)
	addresses, err := newPool(l.prefix)
	if err != nil { // New has checked it
		return have
	}
	addresses.cursor = m.cursor
	out := resource.ServiceVIPs{}
	for _, key := range slices.Sorted(maps.Keys(have)) {
		service, ok := resource.ServiceOfVIPKey(key)
		addr, err := netip.ParseAddr(have[key].Address)
		// Of two with one address, which only a hand can have written, the second gets another.
		if ok && m.owners[service] == nil || err != nil || !addresses.reserve(addr, vipOwner(key)) {
			continue
		}
		out[key] = have[key]
		if ok && !l.isEntry(have[key], service, addr) {
			out[key] = l.entry(service, addr)
		}
	}
	missing := 0
	for _, service := range slices.Sorted(maps.Keys(m.owners)) {
		key := resource.ServiceVIPKey(service)
		if _, ok := out[key]; ok {
			continue
		}
		addr, err := addresses.next(vipOwner(key))
		if err != nil {
			missing++
			continue
		}
		out[key] = l.entry(service, addr)
	}
	m.cursor = addresses.cursor
	if missing > 0 && missing != m.starved {
		l.log.Error("no address is free, values of kuma.io/service stay without one: enlarge the range of the control plane",
			"mesh", mesh, "range", l.prefix.String(), "services", missing)
	}
	m.starved = missing
	return out
}

func vipOwner(key string) resource.Key { return resource.Key{Name: key} }

func (l *legacy) entry(service string, addr netip.Addr) resource.ServiceVIP {
	return resource.ServiceVIP{Address: addr.String(), Outbounds: []resource.ServiceVIPPort{
		{Port: l.port, TagSet: map[string]string{resource.TagService: service}, Origin: originService},
	}}
}

// isEntry tells whether an entry is as l.entry makes it.
func (l *legacy) isEntry(v resource.ServiceVIP, service string, addr netip.Addr) bool {
	if len(v.Outbounds) != 1 || v.Address != addr.String() {
		return false
	}
	o := v.Outbounds[0]
	return o.Port == l.port && o.Origin == originService && len(o.TagSet) == 1 && o.TagSet[resource.TagService] == service
}
