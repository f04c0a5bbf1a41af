package hostname

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/resource"
)

func newTestPlan(t testing.TB, cidrs ...string) *plan {
	t.Helper()
	p := newPlan(meshService(), "zone-a")
	for _, cidr := range cidrs {
		one, err := newPool(netip.MustParsePrefix(cidr))
		if err != nil {
			t.Fatal(err)
		}
		p.pools = append(p.pools, one)
	}
	return p
}

// text is a want in one line per fact.
func (w want) text() []string {
	var out []string
	for _, v := range w.VIPs {
		out = append(out, "vip "+v.IP)
	}
	for _, a := range w.Addresses {
		out = append(out, fmt.Sprintf("address %s %s %s", a.Hostname, a.Origin, a.HostnameGeneratorRef.CoreName))
	}
	for _, g := range w.Generators {
		for _, c := range g.Conditions {
			out = append(out, fmt.Sprintf("%s %s %s %s %q", g.HostnameGeneratorRef.CoreName, c.Type, c.Status, c.Reason, c.Message))
		}
	}
	return out
}

func TestHostnames(t *testing.T) {
	synced := gen("a-synced", 1, "same.x")
	synced.Labels = map[string]string{resource.LabelOrigin: resource.OriginGlobal}
	local := gen("z-local", 9, "same.x")
	local.Labels = map[string]string{resource.LabelOrigin: resource.OriginZone}
	fromElsewhere := service("other", 3)
	fromElsewhere.Mesh = "n"
	external := gen("ext", 1, "ext.x")
	external.Spec.(*resource.HostnameGenerator).Selector = resource.GeneratorSelector{MeshExternalService: &resource.LabelSelector{}}
	ok := func(name string) string { return name + ` Generated True Generated ""` }
	tests := []struct {
		name       string
		generators []*resource.Resource
		services   []*resource.Resource
		want       map[string][]string // by mesh/name, without VIPs
	}{
		{
			name: "sample of the contract", generators: append(universal(), gen("g3", 1, "{{ .Nope }}"), gen("g4", 2, "fixed.example.test")),
			services: []*resource.Resource{service("backend", 1)},
			want: map[string][]string{"m/backend": {
				"address fixed.example.test HostnameGenerator g4",
				"address backend.svc.mesh.local HostnameGenerator local-universal-mesh-service",
				`g3 Generated False TemplateError "pre evaluation of template with parameters failed with error=\"template: :1:3: executing \\\"\\\" at <.Nope>: can't evaluate field Nope in type hostname.meshedName\""`,
				ok("g4"), ok("local-universal-mesh-service"),
			}},
		},
		{
			name: "no match, no condition", generators: []*resource.Resource{gen("g", 1, "x", "tier", "gold"), gen("absent is not empty", 1, "y", "none", ""), external},
			services: []*resource.Resource{service("a", 1)}, want: map[string][]string{"m/a": nil},
		},
		{
			name: "the older service wins, whatever its name", generators: []*resource.Resource{gen("g", 1, "same.x")},
			services: []*resource.Resource{service("a", 2), service("b", 1)},
			want: map[string][]string{
				"m/a": {`g Generated False Collision "Hostname collision with MeshService: b"`},
				"m/b": {"address same.x HostnameGenerator g", ok("g")},
			},
		},
		{
			name: "of one age the smaller name wins", generators: []*resource.Resource{gen("g", 1, "same.x")},
			services: []*resource.Resource{service("b", 1), service("a", 1)},
			want: map[string][]string{
				"m/b": {`g Generated False Collision "Hostname collision with MeshService: a"`},
				"m/a": {"address same.x HostnameGenerator g", ok("g")},
			},
		},
		{
			name: "names that differ in case collide, as DNS answers to both", generators: []*resource.Resource{gen("g", 1, `{{ label "n" }}.x`)},
			services: []*resource.Resource{service("a", 1, "n", "Same_1"), service("b", 2, "n", "same_1")},
			want: map[string][]string{
				"m/a": {"address Same_1.x HostnameGenerator g", ok("g")},
				"m/b": {`g Generated False Collision "Hostname collision with MeshService: a"`},
			},
		},
		{
			name: "meshes do not collide", generators: []*resource.Resource{gen("g", 1, "same.x")},
			services: []*resource.Resource{service("a", 2), fromElsewhere},
			want: map[string][]string{
				"m/a": {"address same.x HostnameGenerator g", ok("g")}, "n/other": {"address same.x HostnameGenerator g", ok("g")},
			},
		},
		{
			name: "two generators of one name for one service", generators: []*resource.Resource{gen("b", 1, "same.x"), gen("a", 2, "same.x")},
			services: []*resource.Resource{service("s", 1)},
			want: map[string][]string{"m/s": {
				"address same.x HostnameGenerator a", "address same.x HostnameGenerator b", ok("a"), ok("b"),
			}},
		},
		{
			name: "the generator of the zone goes first", generators: []*resource.Resource{synced, local, gen("only-b", 1, "same.x", "k", "b")},
			services: []*resource.Resource{service("a", 1), service("b", 2, "k", "b")},
			want: map[string][]string{
				"m/a": {"address same.x HostnameGenerator a-synced", "address same.x HostnameGenerator z-local", ok("a-synced"), ok("z-local")},
				"m/b": {
					`a-synced Generated False Collision "Hostname collision with MeshService: a"`,
					`only-b Generated False Collision "Hostname collision with MeshService: a"`,
					`z-local Generated False Collision "Hostname collision with MeshService: a"`,
				},
			},
		},
		{
			name: "an older generator takes the name for a younger service", generators: []*resource.Resource{gen("old", 1, "same.x", "k", "b"), gen("young", 2, "same.x")},
			services: []*resource.Resource{service("a", 1), service("b", 2, "k", "b")},
			want: map[string][]string{
				"m/a": {`young Generated False Collision "Hostname collision with MeshService: b"`},
				"m/b": {"address same.x HostnameGenerator old", "address same.x HostnameGenerator young", ok("old"), ok("young")},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newTestPlan(t, DefaultCIDR)
			for _, g := range tt.generators {
				p.setGenerator(g)
			}
			p.load(tt.services)
			got := map[string][]string{}
			for k, w := range p.work() {
				got[k.Mesh+"/"+k.Name] = slices.DeleteFunc(w.text(), func(s string) bool { return s[:3] == "vip" })
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestVIPs(t *testing.T) {
	p := newTestPlan(t, "241.0.0.0/30")
	vip := func(name string) string {
		e := p.find(service(name, 0).Key)
		if e == nil || len(e.vips) == 0 {
			return ""
		}
		return e.vips[0].IP
	}
	// What is stored stays: reserved before anything is handed out, of two that share the older keeps it, and addresses
	// that are not ours are no business of ours.
	p.load([]*resource.Resource{
		service("new", 1), withVIP(service("young", 5), "241.0.0.1"), withVIP(service("old", 2), "241.0.0.1"), withVIP(service("cluster", 3), "10.96.0.1"),
		withVIP(service("cluster-2", 3), "10.96.0.1"), withVIP(service("bad", 9), "nonsense"),
	})
	want := map[string]string{"new": "241.0.0.0", "old": "241.0.0.1", "young": "241.0.0.2", "cluster": "10.96.0.1", "cluster-2": "10.96.0.1", "bad": "241.0.0.3"}
	for name, ip := range want {
		if got := vip(name); got != ip {
			t.Errorf("%s: got %q, want %q", name, got, ip)
		}
	}
	if n := len(p.work()); n != 3 {
		t.Errorf("%d services are to be written, want new, young and bad", n)
	}
	// The range is used up.
	p.setService(service("late", 10))
	if got := vip("late"); got != "" || !p.starved[service("late", 0).Key] {
		t.Errorf("late got %q from a full range", got)
	}
	p.work()
	p.removeService(service("young", 0).Key)
	p.work()
	if got := vip("late"); got != "241.0.0.2" || len(p.starved) != 0 {
		t.Errorf("after a release late has %q, want 241.0.0.2", got)
	}
	// A status that was lost comes back; one that names another's address does not.
	p.setService(service("old", 2))
	if w := p.work()[service("old", 0).Key]; len(w.VIPs) != 1 || w.VIPs[0].IP != "241.0.0.1" {
		t.Errorf("lost status: got %v, want 241.0.0.1 again", w.VIPs)
	}
	p.setService(withVIP(service("old", 2), "241.0.0.0"))
	if got := vip("old"); got != "241.0.0.1" {
		t.Errorf("old took %s", got)
	}
	p.removeService(service("unknown", 0).Key)
	// Who is given another address by hand releases the one before.
	p.setService(withVIP(service("old", 2), "10.1.1.1"))
	p.setService(service("next", 11))
	if got := vip("next"); got != "241.0.0.1" {
		t.Errorf("next got %q, want what old had", got)
	}
}

// TestDualRanges: a service has an address of each family, and keeps what it has when IPv6 is added or taken away.
func TestDualRanges(t *testing.T) {
	p := newTestPlan(t, "241.0.0.0/30", "fd00:241::/126")
	vips := func(name string) (out string) {
		for _, v := range p.find(service(name, 0).Key).vips {
			out += v.IP + " "
		}
		return out
	}
	check := func(want map[string]string) {
		t.Helper()
		for name, w := range want {
			if got := vips(name); got != w {
				t.Errorf("%s: got %q, want %q", name, got, w)
			}
		}
	}
	p.load([]*resource.Resource{
		service("new", 5), withVIP(service("before", 1), "241.0.0.0"), withVIP(service("both", 2), "fd00:241::", "241.0.0.1"), withVIP(service("cluster", 3), "10.96.0.1"),
	})
	check(map[string]string{
		"before": "241.0.0.0 fd00:241::1 ", "both": "fd00:241:: 241.0.0.1 ", "cluster": "10.96.0.1 fd00:241::2 ", "new": "241.0.0.2 fd00:241::3 ",
	})
	if n := len(p.work()); n != 3 {
		t.Errorf("%d services are to be written, want all but both", n)
	}
	// Of a family that is used up there is none, of the other there is.
	p.setService(service("late", 9))
	check(map[string]string{"late": "241.0.0.3 "})
	p.work()
	p.removeService(service("cluster", 0).Key)
	if w := p.work()[service("late", 0).Key]; len(w.VIPs) != 2 || w.VIPs[1].IP != "fd00:241::2" {
		t.Errorf("after a release late has %v, want fd00:241::2 too", w.VIPs)
	}
	// With one range again nobody is given another address, whatever its family.
	p = newTestPlan(t, "fd00:241::/126")
	p.load([]*resource.Resource{withVIP(service("both", 1), "241.0.0.1", "fd00:241::"), withVIP(service("four", 2), "241.0.0.2"), service("new", 3)})
	check(map[string]string{"both": "241.0.0.1 fd00:241:: ", "four": "241.0.0.2 ", "new": "fd00:241::1 "})
}

func TestPool(t *testing.T) {
	if _, err := newPool(netip.Prefix{}); err == nil {
		t.Error("no error for no range")
	}
	p, err := newPool(netip.MustParsePrefix("255.255.255.254/31"))
	if err != nil {
		t.Fatal(err)
	}
	a, b, c := service("a", 0).Key, service("b", 0).Key, service("c", 0).Key
	first, _ := p.next(a)
	second, _ := p.next(b)
	if first.String() != "255.255.255.254" || second.String() != "255.255.255.255" {
		t.Errorf("got %s and %s", first, second)
	}
	if _, err := p.next(c); !errors.Is(err, errExhausted) {
		t.Errorf("got %v, want exhausted", err)
	}
	p.release(first, b) // not its own
	if p.inUse() != 2 {
		t.Error("released another's address")
	}
	p.release(second, b)
	if got, err := p.next(c); err != nil || got != second {
		t.Errorf("got %v, %v, want the released %s", got, err, second)
	}
	// Of two free ones the one that was free longer is next.
	p, _ = newPool(netip.MustParsePrefix("241.0.0.0/30"))
	first, _ = p.next(a)
	p.release(first, a)
	if got, _ := p.next(b); got.String() != "241.0.0.1" {
		t.Errorf("got %s, want 241.0.0.1: 241.0.0.0 was in use a moment ago", got)
	}
	v6, err := newPool(netip.MustParsePrefix("fd00::/8"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := v6.next(a); got.String() != "fd00::" {
		t.Errorf("got %s, want fd00::", got)
	}
}

// TestPlanSteps: a plan that hears of changes one by one says the same names as one that is loaded, and no two services
// ever share an address.
func TestPlanSteps(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newTestPlan(t, "241.0.0.0/29")
		services, generators := map[string]*resource.Resource{}, map[string]*resource.Resource{}
		for range rapid.IntRange(1, 30).Draw(rt, "steps") {
			name := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(rt, "name")
			switch rapid.IntRange(0, 4).Draw(rt, "what") {
			case 0:
				delete(services, name)
				p.removeService(service(name, 0).Key)
			case 1:
				delete(generators, name)
				p.removeGenerator(name)
			case 2:
				template := rapid.SampledFrom([]string{"same.x", "{{ .DisplayName }}.x", "{{ .Nope }}", "{{"}).Draw(rt, "template")
				generators[name] = gen(name, rapid.IntRange(1, 3).Draw(rt, "age"), template)
				if rapid.Bool().Draw(rt, "narrow") {
					generators[name].Spec.(*resource.HostnameGenerator).Selector.MeshService.MatchLabels[resource.LabelDisplayName] = "x"
				}
				p.setGenerator(generators[name])
			default:
				r := service(name, rapid.IntRange(1, 2).Draw(rt, "born"), resource.LabelDisplayName, rapid.SampledFrom([]string{"x", "y", "X"}).Draw(rt, "display"))
				if ip := rapid.SampledFrom([]string{"", "241.0.0.1", "241.0.0.2", "10.0.0.1"}).Draw(rt, "vip"); ip != "" {
					withVIP(r, ip)
				}
				services[name] = r
				p.setService(r)
			}
			for k, w := range p.work() { // is written back
				services[k.Name] = w.apply(services[k.Name])
				p.setService(services[k.Name])
			}
			if again := p.work(); len(again) > 0 {
				rt.Fatalf("work that was done is there again: %v", again)
			}
		}
		fresh := newTestPlan(t, "241.0.0.0/29")
		var all []*resource.Resource
		seen := map[string]string{}
		for name, r := range services {
			all = append(all, r)
			for _, v := range r.Status.(*resource.MeshServiceStatus).VIPs {
				if v.IP != "10.0.0.1" && seen[v.IP] != "" {
					rt.Fatalf("%s and %s share %s", name, seen[v.IP], v.IP)
				}
				seen[v.IP] = name
			}
			if len(r.Status.(*resource.MeshServiceStatus).VIPs) == 0 {
				rt.Fatalf("%s has no address", name)
			}
		}
		for _, g := range generators {
			fresh.setGenerator(g)
		}
		fresh.load(all)
		if w := fresh.work(); len(w) > 0 {
			rt.Fatalf("a fresh plan wants something else: %v", w)
		}
	})
}

func TestApplyKeepsTheRest(t *testing.T) {
	r := service("a", 1)
	r.Status = &resource.MeshServiceStatus{TLS: &resource.TLSStatus{Status: resource.TLSReady}, VIPs: []resource.VIP{{IP: "1.2.3.4"}}}
	got := want{of: meshService(), published: published{VIPs: []resource.VIP{{IP: "241.0.0.0"}}}}.apply(r).Status.(*resource.MeshServiceStatus)
	if got.TLS == nil || got.TLS.Status != resource.TLSReady || got.VIPs[0].IP != "241.0.0.0" {
		t.Errorf("got %+v", got)
	}
	if r.Status.(*resource.MeshServiceStatus).VIPs[0].IP != "1.2.3.4" {
		t.Error("the stored status was changed")
	}
}
