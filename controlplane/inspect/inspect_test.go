package inspect

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/identity"
	"github.com/kuma-dp/kuma-dp/controlplane/mtlsreports"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/controlplane/xds"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// proxies are those of a real server, but for the connection, which a test may make up.
type proxies struct {
	*xds.Server
	endpoint *xds.AdminEndpoint
	// statuses are those of proxies by name; those of the others are real. blamed counts the questions who is to blame.
	statuses map[string]*xds.Status
	blamed   int
	// secured are "connected" or "secured", by name.
	secured map[string]string
	// online are the names of those with a stream.
	online map[string]bool
}

func (p *proxies) IsConnected(_, name string) bool { return p.online[name] }

// reports are those of agents by name.
type reports map[string]*mtlsreports.Received

func (r reports) Of(key resource.Key) *mtlsreports.Received { return r[key.Name] }

func (p *proxies) AdminEndpoint(mesh, name string) (xds.AdminEndpoint, error) {
	if p.endpoint != nil {
		return *p.endpoint, nil
	}
	return p.Server.AdminEndpoint(mesh, name)
}

// still is a topology without changes.
type still struct{ world *topology.World }

func (s still) Current() *topology.World { return s.world }

func (s still) Subscribe(func(topology.Change)) (cancel func()) { return func() {} }

type rig struct {
	t       testing.TB
	handler http.Handler
	url     string
	proxies *proxies
	admin   *identity.Admin
	store   store.Store
	reports reports
	reg     *resource.Registry
	// settle waits until the topology has seen every commit.
	settle func()
	// fresh forgets all that was made.
	fresh func()
	// anew looks at what is stored now without anything that came before.
	anew func()
}

// start serves the API over the resources of a YAML stream, as the zone zone-a.
func start(t testing.TB, input []byte, options ...func(*api.Config)) *rig {
	t.Helper()
	registry := resource.NewRegistry(all.Descriptors()...)
	st := memory.Open(registry)
	t.Cleanup(func() { st.Close() })
	zone := resource.ZoneInfo{Zone: "zone-a"}
	for _, doc := range resource.SplitYAML(input) {
		r, err := registry.DecodeYAML(doc)
		if err != nil {
			t.Fatal(err)
		}
		resource.ComputeLabels(r, zone)
		resource.SetDefaults(r, zone)
		if r.Kind == resource.KindMesh { // stored by the control plane itself, it has no labels in the captures
			r.Labels = nil
		}
		if r.Kind == resource.KindMeshService && r.Status == nil { // one without an address is nobody's outbound
			r.Status = &resource.MeshServiceStatus{VIPs: []resource.VIP{{IP: "241.0.0.1"}}, Addresses: []resource.ServiceAddress{{Hostname: r.Name + ".mesh"}}}
		}
		if _, err := st.Commit(t.Context(), store.Op{Action: store.Create, Resource: r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := identity.EnsureAuthorities(t.Context(), st, time.Now()); err != nil {
		t.Fatal(err)
	}
	g := &rig{t: t, store: st, reg: registry, reports: reports{}}
	var err error
	if g.admin, err = identity.LoadAdmin(st); err != nil {
		t.Fatal(err)
	}
	tracker := topology.New(topology.Config{Store: st, Zone: zone.Zone})
	done := make(chan error, 1)
	ctx := t.Context()
	go func() { done <- tracker.Run(ctx) }()
	t.Cleanup(func() { <-done })
	<-tracker.Ready()
	marks := 0
	g.settle = func() {
		seen := make(chan struct{}, 1)
		defer tracker.Subscribe(func(topology.Change) {
			select {
			case seen <- struct{}{}:
			default:
			}
		})()
		marks++
		mark := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindConfig, Name: "mark"}}, Spec: &resource.Config{Config: fmt.Sprint(marks)}}
		out, err := st.Commit(ctx, store.Op{Action: store.Upsert, Resource: mark})
		if err != nil {
			t.Fatal(err)
		}
		for tracker.Current().Revision < out[0].Version {
			<-seen
		}
	}
	g.proxies = &proxies{}
	serve := func(picture xds.Topology) {
		g.proxies.Server = xds.New(xds.Config{Topology: picture, Zone: zone.Zone, Kinds: all.Kinds(), Effects: all.Effects(), Registry: registry})
	}
	g.fresh = func() { serve(tracker) }
	g.anew = func() {
		stored, w := st.Watch()
		w.Close()
		serve(still{topology.Build(zone.Zone, stored...)})
	}
	g.fresh()
	i, err := New(Config{
		Store: st, Watch: st.Watch, Proxies: g.proxies, Authorities: identity.New(identity.Config{Store: st}), MTLSReports: g.reports, Kinds: all.Kinds(), Zone: zone.Zone, Admin: g.admin, ConnectTimeout: 5 * time.Second, Timeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	validator, err := token.NewValidator(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := api.Config{
		Store: st, Registry: registry, Issuer: token.NewIssuer(st, nil), Validator: validator, Zone: zone, LocalhostIsAdmin: true, Extra: i.Routes,
		StrictChange: i.StrictChange,
	}
	for _, o := range options {
		o(&cfg)
	}
	s, err := api.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.handler = s.Handler()
	server := httptest.NewServer(g.handler)
	t.Cleanup(server.Close)
	g.url = server.URL
	return g
}

func (g *rig) get(path string) (int, http.Header, string) {
	g.t.Helper()
	resp, err := http.Get(g.url + path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}

// value compares what the captures promise: the order of sets is not part of it (cases README).
func value(t *testing.T, text string) any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	withoutTimes(v)
	rules, _ := v["rules"].([]any)
	for _, r := range rules {
		sortBy(r.(map[string]any)["toResourceRules"], func(m map[string]any) string {
			b, _ := json.Marshal([]any{m["resourceMeta"], m["resourceSectionName"]})
			return string(b)
		})
		sortBy(r.(map[string]any)["fromRules"], func(m map[string]any) string { return fmt.Sprint(m["inbound"]) })
		for _, f := range r.(map[string]any)["fromRules"].([]any) {
			for _, one := range f.(map[string]any)["rules"].([]any) {
				sortBy(one.(map[string]any)["matchers"], func(m map[string]any) string { return fmt.Sprint(m) })
			}
		}
	}
	return v
}

// withoutTimes removes what the captures leave out.
func withoutTimes(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "creationTime")
		delete(v, "modificationTime")
		for _, e := range v {
			withoutTimes(e)
		}
	case []any:
		for _, e := range v {
			withoutTimes(e)
		}
	}
}

func sortBy(list any, key func(map[string]any) string) {
	slices.SortFunc(list.([]any), func(a, b any) int { return cmp.Compare(key(a.(map[string]any)), key(b.(map[string]any))) })
}

// captured are questions that Kuma 2.9.13 answered; the tree has them once. Those about services and configurations need
// more than this package.
const captured = "../../test/conformance/testdata/cases"

// caseFile is what was asked.
type caseFile struct {
	Queries []struct{ Method, Path, Expected string }
}

func TestCases(t *testing.T) {
	inputs, err := filepath.Glob(captured + "/*/input.yaml")
	if err != nil || len(inputs) != 22 {
		t.Fatalf("%d cases: %v", len(inputs), err)
	}
	for _, input := range inputs {
		dir := filepath.Dir(input)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			text, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			asked, err := os.ReadFile(dir + "/case.json")
			if err != nil {
				t.Fatal(err)
			}
			var c caseFile
			if err := json.Unmarshal(asked, &c); err != nil {
				t.Fatal(err)
			}
			g := start(t, text)
			asks := 0
			for _, q := range c.Queries {
				if !slices.ContainsFunc([]string{"/_rules", "/policies", "/_resources/dataplanes"}, func(end string) bool { return strings.HasSuffix(q.Path, end) }) {
					continue
				}
				asks++
				want, err := os.ReadFile(filepath.Join(dir, q.Expected))
				if err != nil {
					t.Fatal(err)
				}
				paths := []string{q.Path}
				if base, ok := strings.CutSuffix(q.Path, "/_resources/dataplanes"); ok {
					paths = append(paths, base+"/-resources/dataplanes")
				}
				for _, path := range paths {
					status, _, body := g.get(path)
					if status != http.StatusOK {
						t.Errorf("%s: got %d %s", path, status, body)
						continue
					}
					if diff := gocmp.Diff(value(t, string(want)), value(t, body)); diff != "" {
						t.Errorf("%s (-captured +ours):\n%s", path, diff)
					}
				}
			}
			if asks == 0 {
				t.Error("the case asks nothing of this package")
			}
		})
	}
}

// TestShadowDiff compares the shape of the captured patch: the services of the capture that are generated are not here.
func TestShadowDiff(t *testing.T) {
	const dir = captured + "/14-shadow/"
	input, err := os.ReadFile(dir + "input.yaml")
	if err != nil {
		t.Fatal(err)
	}
	captured, err := os.ReadFile(dir + "expected/web-1.config-shadow.json")
	if err != nil {
		t.Fatal(err)
	}
	var want, got struct{ Diff []Operation }
	if err := json.Unmarshal(captured, &want); err != nil {
		t.Fatal(err)
	}
	g := start(t, input)
	status, _, body := g.get("/meshes/c14/dataplanes/web-1/_config?shadow=true&include=diff")
	if status != http.StatusOK {
		t.Fatalf("got %d %s", status, body)
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	byUser := func(o Operation) bool { return !strings.Contains(o.Path, "_zone-a_msvc") }
	want.Diff = slices.DeleteFunc(want.Diff, byUser)
	got.Diff = slices.DeleteFunc(got.Diff, byUser)
	if diff := gocmp.Diff(want.Diff, got.Diff, cmpopts.IgnoreUnexported(Operation{})); diff != "" || len(got.Diff) == 0 {
		t.Errorf("patch (-captured +ours):\n%s", diff)
	}
	for path, want := range map[string]bool{"_config": false, "_config?include=diff": true} {
		if _, _, body := g.get("/meshes/c14/dataplanes/web-1/" + path); strings.Contains(body, `"diff": []`) != want {
			t.Errorf("%s: a patch is there: %v", path, !want)
		}
	}
}

const zoneProxies = `
---
type: ZoneIngress
name: zi
networking: {address: 10.9.0.1, port: 10001, advertisedAddress: 10.9.0.1, advertisedPort: 10001}
---
type: ZoneEgress
name: ze
networking: {address: 10.9.0.2, port: 10002}
`

func TestAnswersOfEnvoy(t *testing.T) {
	input, err := os.ReadFile(captured + "/14-shadow/input.yaml")
	if err != nil {
		t.Fatal(err)
	}
	deny := func(c *api.Config) {
		a := api.DefaultAccess()
		a.ViewStats = api.List{}
		c.Access = &a
	}
	var asked string
	envoy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.String()
		if r.Header.Get("Via") == "" {
			t.Error("the request does not say that it is passed on")
		}
		switch r.URL.Path {
		case "/config_dump":
			fmt.Fprint(w, `{"configs":[{"initial_metadata":[{"key":"authorization","value":"secret"}]}]}`)
		case "/clusters":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		default:
			fmt.Fprint(w, "a: 1\n")
		}
	}))
	defer envoy.Close()
	const base = "/meshes/c14/dataplanes/web-1/"
	input = append(input, zoneProxies...)
	g := start(t, input)
	if status, _, body := g.get("/zoneegresses/ze/stats"); status != http.StatusBadRequest || !strings.Contains(body, "not connected") {
		t.Errorf("an egress that is not connected: got %d %s", status, body)
	}
	if status, _, body := g.get(base + "stats"); status != http.StatusBadRequest || !strings.Contains(body, "not connected") {
		t.Errorf("a proxy that is not connected: got %d %s", status, body)
	}
	u, err := url.Parse(envoy.URL)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := &xds.AdminEndpoint{Address: u.Hostname()}
	if _, err := fmt.Sscan(u.Port(), &endpoint.Port); err != nil {
		t.Fatal(err)
	}
	denied := start(t, input, deny)
	g.proxies.endpoint, denied.proxies.endpoint = endpoint, endpoint
	for _, tt := range []struct {
		rig          *rig
		path, asked  string
		status       int
		body, format string
	}{
		{g, "stats", "/stats", 200, "a: 1\n", "text/plain; charset=utf-8"},
		{g, "stats?format=json", "/stats?format=json", 200, "a: 1\n", "application/json"},
		{g, "stats?format=json%26x=y", "", 400, "", ""},
		{g, "xds?include_eds=true", "/config_dump?include_eds", 200, `{"configs":[{"initial_metadata":[]}]}`, "application/json"},
		{g, "clusters", "/clusters", 503, "", ""},
		{g, "quitquitquit", "", 404, "", ""},
		{denied, "stats", "", 403, "", ""},
		{g, "/zoneingresses/zi/xds", "/config_dump", 200, `{"configs":[{"initial_metadata":[]}]}`, "application/json"},
		{g, "/zoneegresses/ze/stats?format=json", "/stats?format=json", 200, "a: 1\n", "application/json"},
		{g, "/zoneegresses/ze/clusters", "/clusters", 503, "", ""},
		{g, "/zoneegresses/zi/stats", "", 404, "", ""},
		{g, "/zoneingresses/zi/quitquitquit", "", 404, "", ""},
		{denied, "/zoneingresses/zi/stats", "", 403, "", ""},
	} {
		asked = ""
		path := tt.path
		if !strings.HasPrefix(path, "/") {
			path = base + path
		}
		status, header, body := tt.rig.get(path)
		if status != tt.status || asked != tt.asked || tt.body != "" && (body != tt.body || header.Get("Content-Type") != tt.format) {
			t.Errorf("%s: got %d %s %q %q", tt.path, status, body, asked, header.Get("Content-Type"))
		}
	}
}
