package hostname

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// start runs an Assigner until stop.
func start(t testing.TB, s store.Store, cidrs ...string) (stop func()) {
	t.Helper()
	a, err := New(Config{Store: s, Zone: "zone-a", CIDR: prefixes(cidrs...)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
}

func commit(t testing.TB, s store.Store, action store.Action, r *resource.Resource) {
	t.Helper()
	if _, err := s.Commit(t.Context(), store.Op{Action: action, Resource: r}); err != nil {
		t.Fatal(err)
	}
}

// await waits until the stored service satisfies ok.
func await(t testing.TB, s store.Store, key resource.Key, ok func(*resource.MeshServiceStatus) bool) *resource.MeshServiceStatus {
	t.Helper()
	_, w := s.Watch()
	defer w.Close()
	for {
		if r, err := s.Get(key); err == nil {
			if st, _ := r.Status.(*resource.MeshServiceStatus); st != nil && ok(st) {
				return st
			}
		}
		if _, err := w.Next(t.Context()); err != nil {
			t.Fatalf("waiting for %s: %v", key, err)
		}
	}
}

func hasAll(st *resource.MeshServiceStatus) bool { return len(st.VIPs) > 0 && len(st.Addresses) > 0 }

func TestRun(t *testing.T) {
	s := open(t)
	stop := start(t, s, "241.0.0.0/30")
	begin := time.Now()
	commit(t, s, store.Create, service("a", 0))
	st := await(t, s, service("a", 0).Key, hasAll)
	t.Logf("from PUT to VIP and hostname: %s", time.Since(begin))
	if st.VIPs[0].IP != "241.0.0.0" || st.Addresses[0].Hostname != "a.svc.mesh.local" {
		t.Errorf("got %v %v", st.VIPs, st.Addresses)
	}
	for _, name := range []string{"b", "c", "d"} {
		commit(t, s, store.Create, service(name, 0))
		await(t, s, service(name, 0).Key, hasAll)
	}
	// A generator more, a generator less.
	commit(t, s, store.Create, gen("extra", 0, "{{ .Name }}.extra"))
	await(t, s, service("a", 0).Key, func(st *resource.MeshServiceStatus) bool { return len(st.Addresses) == 2 })
	commit(t, s, store.Delete, gen("extra", 0, ""))
	await(t, s, service("a", 0).Key, func(st *resource.MeshServiceStatus) bool { return len(st.Addresses) == 1 })
	// A PUT that loses the status gets the same address back.
	commit(t, s, store.Update, service("b", 0, "changed", "yes"))
	if st := await(t, s, service("b", 0).Key, hasAll); st.VIPs[0].IP != "241.0.0.1" {
		t.Errorf("after a PUT without status: got %v, want 241.0.0.1", st.VIPs)
	}
	// The range is full, until a service goes.
	commit(t, s, store.Create, service("e", 0))
	if st := await(t, s, service("e", 0).Key, func(st *resource.MeshServiceStatus) bool { return len(st.Addresses) == 1 }); len(st.VIPs) != 0 {
		t.Errorf("got %v from a full range", st.VIPs)
	}
	commit(t, s, store.Delete, service("c", 0))
	if st := await(t, s, service("e", 0).Key, hasAll); st.VIPs[0].IP != "241.0.0.2" {
		t.Errorf("got %v, want what c had", st.VIPs)
	}
	stop()
	// After a restart everything is as it was, and what is given away is still new.
	before := s.List(resource.KindMeshService, "m")
	commit(t, s, store.Delete, service("a", 0))
	defer start(t, s, "241.0.0.0/30")()
	commit(t, s, store.Create, service("f", 0))
	if st := await(t, s, service("f", 0).Key, hasAll); st.VIPs[0].IP != "241.0.0.0" {
		t.Errorf("got %v, want the only free address", st.VIPs)
	}
	for _, r := range before[1:] {
		if now, err := s.Get(r.Key); err != nil || now.Version != r.Version {
			t.Errorf("%s was written again: %v", r.Key, err)
		}
	}
}

func TestNew(t *testing.T) {
	a, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{DefaultExternalCIDR, DefaultCIDR, DefaultMultiZoneCIDR} {
		if got := a.plans[i].ranges(); got != want {
			t.Errorf("%s: got range %s, want %s", a.plans[i].of.kind, got, want)
		}
	}
	for _, tt := range []struct {
		name, want string
		cfg        Config
	}{
		{"in another", "addresses of MeshMultiZoneService: the range 241.1.0.0/16 overlaps 241.0.0.0/8 of MeshService", Config{MultiZoneCIDR: prefixes("241.1.0.0/16")}},
		{"around another", "addresses of MeshService: the range 240.0.0.0/4 overlaps 242.0.0.0/8 of MeshExternalService", Config{CIDR: prefixes("240.0.0.0/4")}},
		{"the same", "overlaps 10.0.0.0/8 of MeshExternalService", Config{ExternalCIDR: prefixes("10.0.0.0/8"), MultiZoneCIDR: prefixes("10.0.0.0/8")}},
		{"the same of IPv6", "overlaps fd00::/64 of MeshService", Config{CIDR: prefixes("241.0.0.0/8", "fd00::/64"), MultiZoneCIDR: prefixes("fd00::/64")}},
		{"two of IPv4", "one of IPv4 and one of IPv6", Config{CIDR: prefixes("241.0.0.0/9", "241.128.0.0/9")}},
		{"three", "one of IPv4 and one of IPv6", Config{CIDR: prefixes("241.0.0.0/8", "fd00::/64", "fd01::/64")}},
		{"two for one address", "addresses of MeshExternalService: there are 2 ranges", Config{ExternalCIDR: prefixes("242.0.0.0/8", "fd00::/64")}},
		{"none", "the range is not valid", Config{CIDR: make([]netip.Prefix, 1)}},
		{"older names begin in it", "kuma.io/service: the range 241.0.0.0/16 begins in 241.0.0.0/8", Config{LegacyCIDR: netip.MustParsePrefix("241.0.0.0/16")}},
	} {
		if _, err := New(tt.cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %s", tt.name, err, tt.want)
		}
	}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// universal are the generators of a zone without Kubernetes.
func universal() []*resource.Resource { return Defaults(ModeZone, resource.EnvUniversal) }

// TestDefaults has the table of contract dns.md §1.4.
func TestDefaults(t *testing.T) {
	const (
		external    = `local-mesh-external-service {"meshExternalService":{"matchLabels":{"kuma.io/origin":"zone"}}} {{ .DisplayName }}.extsvc.mesh.local map[kuma.io/origin:zone]`
		mesh        = `local-universal-mesh-service {"meshService":{"matchLabels":{"kuma.io/origin":"zone"}}} {{ .DisplayName }}.svc.mesh.local map[kuma.io/origin:zone]`
		multi       = `synced-mesh-multi-zone-service {"meshMultiZoneService":{"matchLabels":{"kuma.io/origin":"global"}}} {{ .DisplayName }}.mzsvc.mesh.local map[]`
		kube        = `synced-kube-mesh-service {"meshService":{"matchLabels":{"k8s.kuma.io/is-headless-service":"false","kuma.io/env":"kubernetes","kuma.io/origin":"global"}}} {{ .DisplayName }}.{{ .Namespace }}.svc.{{ .Zone }}.mesh.local map[]`
		headless    = `synced-headless-kube-mesh-service {"meshService":{"matchLabels":{"k8s.kuma.io/is-headless-service":"true","kuma.io/env":"kubernetes","kuma.io/origin":"global"}}} {{ label "statefulset.kubernetes.io/pod-name" }}.{{ label "k8s.kuma.io/service-name" }}.{{ .Namespace }}.svc.{{ .Zone }}.mesh.local map[]`
		elsewhere   = `synced-universal-mesh-service {"meshService":{"matchLabels":{"kuma.io/env":"universal","kuma.io/origin":"global"}}} {{ .DisplayName }}.svc.{{ .Zone }}.mesh.local map[]`
		externalAll = `synced-mesh-external-service {"meshExternalService":{"matchLabels":{"kuma.io/origin":"global"}}} {{ .DisplayName }}.extsvc.mesh.local map[]`
	)
	for _, tt := range []struct {
		mode, environment string
		want              []string
	}{
		{ModeZone, resource.EnvUniversal, []string{external, mesh}},
		{"standalone", resource.EnvUniversal, []string{external, mesh}},
		{ModeZone, resource.EnvKubernetes, []string{external}},
		{ModeGlobal, resource.EnvUniversal, []string{multi, kube, headless, elsewhere, externalAll}},
		{ModeGlobal, resource.EnvKubernetes, []string{multi, kube, headless, elsewhere, externalAll}},
	} {
		var got []string
		for _, r := range Defaults(tt.mode, tt.environment) {
			spec := r.Spec.(*resource.HostnameGenerator)
			if v := spec.Validate(&r.Meta); len(v) > 0 {
				t.Errorf("%s: %v", r.Name, v)
			}
			selector, err := json.Marshal(spec.Selector)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, fmt.Sprint(r.Name, " ", string(selector), " ", spec.Template, " ", r.Labels))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s on %s (-want +got):\n%s", tt.mode, tt.environment, diff)
		}
	}
}

// TestCrowd lets users create, change and delete services at once, and somebody else write their status, and then looks
// at the whole: every service has an address and a name of its own.
func TestCrowd(t *testing.T) {
	s := open(t)
	defer start(t, s, "241.0.0.0/24")()
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(worker)))
			for range 200 {
				name := fmt.Sprint("s", rnd.IntN(40))
				var op store.Op
				switch rnd.IntN(4) {
				case 0:
					op = store.Op{Action: store.Delete, Resource: service(name, 0)}
				case 1: // another derivation, which keeps what it does not own
					r, err := s.Get(service(name, 0).Key)
					if err != nil {
						continue
					}
					st := resource.MeshServiceStatus{}
					if old, _ := r.Status.(*resource.MeshServiceStatus); old != nil {
						st = *old
					}
					st.DataplaneProxies = &resource.DataplaneProxyCount{Total: rnd.IntN(9)}
					c := *r
					c.Status = &st
					op = store.Op{Action: store.Update, Resource: &c, ExpectVersion: r.Version}
				default:
					op = store.Op{Action: store.Upsert, Resource: service(name, 0, "n", fmt.Sprint(rnd.IntN(9)))}
				}
				_, err := s.Commit(t.Context(), op)
				_ = err // of several at once only one succeeds
			}
		})
	}
	wg.Wait()
	seen := map[string]string{}
	for _, r := range s.List(resource.KindMeshService, "m") {
		st := await(t, s, r.Key, hasAll)
		if st.Addresses[0].Hostname != r.Name+".svc.mesh.local" {
			t.Errorf("%s: %v", r.Key, st.Addresses)
		}
	}
	for _, r := range s.List(resource.KindMeshService, "m") {
		ip := r.Status.(*resource.MeshServiceStatus).VIPs[0].IP
		if seen[ip] != "" {
			t.Errorf("%s and %s share %s", r.Name, seen[ip], ip)
		}
		seen[ip] = r.Name
	}
}

// BenchmarkWork is one service more among ten thousand.
func BenchmarkWork(b *testing.B) {
	p := newTestPlan(b, DefaultCIDR)
	for _, g := range universal() {
		p.setGenerator(g)
	}
	services := map[string]*resource.Resource{}
	for i := range 10_000 {
		r := service(fmt.Sprint("s", i), i)
		services[r.Name] = r
		p.setService(r)
	}
	for k, w := range p.work() {
		p.setService(w.apply(services[k.Name]))
	}
	b.ReportAllocs()
	for b.Loop() {
		p.setService(service("extra", 50_000))
		if n := len(p.work()); n != 1 {
			b.Fatalf("%d services are to be written, want 1", n)
		}
		p.removeService(service("extra", 0).Key)
		p.work()
	}
}
