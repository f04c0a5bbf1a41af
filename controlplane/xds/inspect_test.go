package xds

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
	"github.com/kuma-dp/kuma-dp/internal/wirejson"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestInspect(t *testing.T) {
	r := newRig(t)
	r.backend("backend-1", "10.0.0.1")
	r.put(timeout("short", "2s"))
	p := r.sotw(r.ctx(), node("client-1"), nil)
	p.subscribe(TypeListener)
	p.next() // everything before is known to the topology now
	for _, name := range []string{"backend-1", "client-1"} {
		cfg, err := r.srv.ConfigOf("default", name, false)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(cfg[TypeSecret]["identity_cert:secret:default"]); !strings.Contains(got, `"S0VZ"`) {
			t.Errorf("%s: secret is %s, want a placeholder", name, got)
		}
		if cfg[TypeListener][adminName] != nil {
			t.Errorf("%s: the configuration has what only metadata tells", name)
		}
	}
	rules, err := r.srv.Rules("default", "client-1", false)
	if err != nil || len(rules) != 1 || rules[0].Kind != resource.Kind("MeshTimeout") {
		t.Errorf("rules are %v, %v", rules, err)
	}
	if _, err := r.srv.ConfigOf("default", "nobody", false); !errors.Is(err, ErrUnknownProxy) {
		t.Errorf("error is %v", err)
	}
	if _, err := r.srv.Rules("nowhere", "client-1", false); !errors.Is(err, ErrUnknownProxy) {
		t.Errorf("error is %v", err)
	}
}

func TestConfigOfEveryProtocol(t *testing.T) {
	r := newRig(t)
	r.put(`
type: Dataplane
mesh: default
name: all-1
networking:
  address: 10.0.0.7
  inbound:
  - {port: 7001, tags: {kuma.io/service: a, kuma.io/protocol: kafka}}
  - {port: 7002, tags: {kuma.io/service: b, kuma.io/protocol: grpc}}
`)
	r.awaitDataplane("all-1")
	cfg, err := r.srv.ConfigOf("default", "all-1", false)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(cfg[TypeListener]["inbound:10.0.0.7:7001"]); !strings.Contains(got, "KafkaBroker") {
		t.Errorf("listener is %s", got)
	}
}

// countedTypes counts the questions for types. A Renderer that knows a type asks only for what it leaves to the library.
type countedTypes struct {
	effect.Types
	asked *int
}

func (c countedTypes) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	*c.asked++
	return c.Types.FindMessageByURL(url)
}

// TestShownAtSize: everything of a proxy that policies of every kind apply to is rendered as by the library, and nothing by it.
func TestShownAtSize(t *testing.T) {
	in := mixInput(t, topology.Build(mixSize.Zone, mixResources(t)...), newRulebook(all.Kinds(), mixSize.Zone))
	in.Identity = &KeyPair{Cert: []byte("CERT"), Key: []byte("KEY")}
	snap, err := NewGenerator(all.Effects()).Generate(in)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	renderer := wirejson.New("", " ", countedTypes{asked: &asked})
	n := 0
	for _, typeURL := range snap.Types() {
		for _, r := range snap.Resources(typeURL) {
			n++
			checkShown(t, r)
			for _, known := range []bool{false, true} {
				before := asked
				if _, err := renderer.Append(nil, r.Any); err != nil {
					t.Fatal(err)
				}
				if known && asked > before {
					t.Errorf("%s is left to the library", r.Name)
				}
			}
		}
	}
	if n < 2*mixSize.Services {
		t.Errorf("there are %d resources", n)
	}
}

// TestShownOfAnyBytes: of bytes that a patch could have broken, and of those of two resources at once, people see what the
// library says, or nothing when it refuses them.
func TestShownOfAnyBytes(t *testing.T) {
	snap := generate(t, NewGenerator(all.Effects()), appendixWorld(t), "default", "frontend-1", mixMeta(), "zone-1")
	byType := map[string][]*Resource{}
	for _, typeURL := range snap.Types() {
		for _, name := range slices.Sorted(maps.Keys(snap.Resources(typeURL))) {
			byType[typeURL] = append(byType[typeURL], snap.Resources(typeURL)[name])
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.SampledFrom(byType[rapid.SampledFrom(snap.Types()).Draw(t, "type")])
		r := some.Draw(t, "resource")
		b := bytes.Clone(r.Any.Value)
		if rapid.Bool().Draw(t, "two") {
			b = append(b, some.Draw(t, "other").Any.Value...)
		}
		for range rapid.IntRange(0, 2).Draw(t, "changes") {
			b[rapid.IntRange(0, len(b)-1).Draw(t, "place")] = rapid.Byte().Draw(t, "byte")
		}
		r = &Resource{Name: r.Name, Any: &anypb.Any{TypeUrl: r.Any.TypeUrl, Value: b}}
		want, wantErr := byLibrary(r)
		got, err := r.JSON()
		if (err != nil) != (wantErr != nil) || !bytes.Equal(got, want) {
			t.Fatalf("%s is shown as %s (%v), want %s (%v)", r.Name, got, err, want, wantErr)
		}
	})
}

// BenchmarkShow renders everything of the proxy of the budgets, and has the library do it.
func BenchmarkShow(b *testing.B) {
	snap, err := NewGenerator(all.Effects()).Generate(mixInput(b, topology.Build(mixSize.Zone, mixResources(b)...), newRulebook(all.Kinds(), mixSize.Zone)))
	if err != nil {
		b.Fatal(err)
	}
	for _, way := range []struct {
		name   string
		render func(*Resource) (json.RawMessage, error)
	}{
		{"here", (*Resource).JSON},
		{"library", byLibrary},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			size := 0
			for b.Loop() {
				size = 0
				for _, typeURL := range snap.Types() {
					for _, r := range snap.Resources(typeURL) {
						text, err := way.render(r)
						if err != nil {
							b.Fatal(err)
						}
						size += len(text)
					}
				}
			}
			b.ReportMetric(float64(size)/(1<<20), "MB")
		})
	}
}

func TestAdminEndpoint(t *testing.T) {
	r := newRig(t)
	r.backend("backend-1", "10.0.0.1")
	if _, err := r.srv.AdminEndpoint("default", "nobody"); !errors.Is(err, ErrUnknownProxy) {
		t.Errorf("error is %v", err)
	}
	p := r.sotw(r.ctx(), node("client-1"), nil)
	p.subscribe(TypeListener)
	p.next()
	if _, err := r.srv.AdminEndpoint("default", "backend-1"); !errors.Is(err, ErrNotConnected) {
		t.Errorf("error is %v", err)
	}
	connected := func(address string, port uint32) {
		r.srv.mu.Lock()
		defer r.srv.mu.Unlock()
		for _, p := range r.srv.proxies {
			p.meta.AdminAddress, p.meta.AdminPort = address, port
		}
	}
	connected("127.0.0.1", 9901)
	got, err := r.srv.AdminEndpoint("default", "client-1")
	if err != nil || !got.Secure || got.Port != 9901 || got.Address == "" {
		t.Errorf("endpoint is %+v, %v", got, err)
	}
	connected("127.0.0.1", 0)
	if _, err := r.srv.AdminEndpoint("default", "client-1"); err == nil || errors.Is(err, ErrNotConnected) {
		t.Errorf("an admin interface that is off: %v", err)
	}
}
