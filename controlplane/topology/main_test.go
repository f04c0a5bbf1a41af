package topology

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/policy"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testPolicy stands for any policy: the topology reads nothing of a kind but its targetRefs and backendRefs.
type testPolicy struct {
	TargetRef *policy.TargetRef `json:"targetRef,omitempty"`
	To        []testItem        `json:"to,omitempty"`
	From      []testItem        `json:"from,omitempty"`
	Conf      string            `json:"conf,omitempty"`
}

type testItem struct {
	TargetRef policy.TargetRef `json:"targetRef"`
	Rules     []testRule       `json:"rules,omitempty"`
}

type testRule struct {
	BackendRefs []policy.BackendRef `json:"backendRefs,omitempty"`
	Mirror      *testMirror         `json:"mirror,omitempty"`
}

type testMirror struct {
	BackendRef policy.BackendRef `json:"backendRef"`
}

// testConf is a conf of the form that routes have.
type testConf struct {
	Rules []testRule `json:"rules,omitempty"`
}

var _ policy.Targeted = (*testPolicy)(nil)

func (*testPolicy) Validate(*resource.Meta) []resource.Violation { return nil }
func (p *testPolicy) Default() any                               { return nil }
func (p *testPolicy) ToItems() []policy.Item                     { return items(p.To) }
func (p *testPolicy) FromItems() []policy.Item                   { return items(p.From) }
func (p *testPolicy) Target() policy.TargetRef {
	if p.TargetRef == nil {
		return policy.TargetRef{Kind: policy.Mesh}
	}
	return *p.TargetRef
}

func items(in []testItem) (out []policy.Item) {
	for _, i := range in {
		out = append(out, policy.Item{TargetRef: i.TargetRef, Conf: &testConf{i.Rules}})
	}
	return out
}

const (
	kindRetry resource.Kind = "MeshRetry"
	kindRoute resource.Kind = "MeshHTTPRoute"
)

func registry() *resource.Registry {
	all := resource.Core()
	for kind, path := range map[resource.Kind]string{kindRetry: "meshretries", kindRoute: "meshhttproutes", kindTimeout: "meshtimeouts"} {
		all = append(all, &resource.Descriptor{
			Kind: kind, Path: path, Policy: &resource.PolicyTraits{HasTo: true, TargetRef: true},
			NewSpec: func() resource.Spec { return &testPolicy{} },
		})
	}
	return resource.NewRegistry(all...)
}

// yaml reads resources as a control plane in zone-a would store them.
func yaml(t testing.TB, text string) []*resource.Resource {
	t.Helper()
	var out []*resource.Resource
	for _, doc := range resource.SplitYAML([]byte(text)) {
		r, err := registry().DecodeYAML(doc)
		if err != nil {
			t.Fatalf("decode %s: %v", doc, err)
		}
		resource.ComputeLabels(r, resource.ZoneInfo{Zone: "zone-a"})
		out = append(out, r)
	}
	return out
}

func testdata(t testing.TB, name string) []*resource.Resource {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return yaml(t, string(b))
}

func put1(t testing.TB, s store.Store, r *resource.Resource) *resource.Resource {
	t.Helper()
	out, err := s.Commit(t.Context(), store.Op{Action: store.Upsert, Resource: r})
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

func key(kind resource.Kind, name string) resource.Key {
	k := resource.Key{Kind: kind, Mesh: "m", Name: name}
	if kind == resource.KindMesh {
		k.Mesh = ""
	}
	return k
}
