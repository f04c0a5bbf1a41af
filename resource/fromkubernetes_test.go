package resource_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/resource"
)

func TestUniversalFromKubernetes(t *testing.T) {
	for _, tt := range []struct{ name, in, want, namespace string }{
		{
			"an older kind", `{"apiVersion":"kuma.io/v1alpha1","kind":"Dataplane","mesh":"m","metadata":{"name":"a","namespace":"x"},"spec":{"networking":{"address":"192.0.2.1"}}}`,
			`{"type":"Dataplane","mesh":"m","name":"a","networking":{"address":"192.0.2.1"}}`, "x",
		},
		{
			"a policy", `{"apiVersion":"kuma.io/v1alpha1","kind":"MeshTLS","metadata":{"name":"a","labels":{"kuma.io/mesh":"m","b":"c"}},"spec":{"z":1,"from":[]}}`,
			`{"type":"MeshTLS","mesh":"m","name":"a","labels":{"b":"c"},"spec":{"z":1,"from":[]}}`, "",
		},
		{
			"a status", `{"apiVersion":"kuma.io/v1alpha1","kind":"MeshService","metadata":{"name":"a"},"spec":{},"status":{"vips":[]}}`,
			`{"type":"MeshService","name":"a","spec":{},"status":{"vips":[]}}`, "",
		},
		{"no spec", `{"apiVersion":"kuma.io/v1alpha1","kind":"Zone","metadata":{"name":"a"}}`, `{"type":"Zone","name":"a"}`, ""},
		{"a spec of null", `{"apiVersion":"kuma.io/v1alpha1","kind":"Mesh","metadata":{"name":"a"},"spec":null}`, `{"type":"Mesh","name":"a"}`, ""},
		{"a kind of another control plane", `{"apiVersion":"kuma.io/v1alpha1","kind":"TrafficRoute","mesh":"m","metadata":{"name":"a"},"spec":{"conf":{}}}`, `{"type":"TrafficRoute","mesh":"m","name":"a","conf":{}}`, ""},
		{
			"a secret", `{"apiVersion":"v1","kind":"Secret","type":"system.kuma.io/secret","metadata":{"name":"a","labels":{"kuma.io/mesh":"m"}},"data":{"value":"YQ=="}}`,
			`{"type":"Secret","mesh":"m","name":"a","data":"YQ=="}`, "",
		},
		{
			"a global secret", `{"apiVersion":"v1","kind":"Secret","type":"system.kuma.io/global-secret","metadata":{"name":"a"},"data":{"value":"YQ=="}}`,
			`{"type":"GlobalSecret","name":"a","data":"YQ=="}`, "",
		},
		{"markup is left alone", `{"apiVersion":"kuma.io/v1alpha1","kind":"MeshProxyPatch","metadata":{"name":"a"},"spec":{"x":"<&>"}}`, `{"type":"MeshProxyPatch","name":"a","spec":{"x":"<&>"}}`, ""},
		{"a name with dots", `{"apiVersion":"kuma.io/v1alpha1","kind":"MeshTLS","metadata":{"name":"a.ns"},"spec":{}}`, `{"type":"MeshTLS","name":"a.ns","spec":{}}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, namespace, err := resource.UniversalFromKubernetes([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" || namespace != tt.namespace {
				t.Errorf("namespace %q (-want +got):\n%s", namespace, diff)
			}
		})
	}
}

func TestUniversalFromKubernetesRefuses(t *testing.T) {
	const head = `{"apiVersion":"kuma.io/v1alpha1","kind":"Dataplane","mesh":"m",`
	for _, tt := range []struct{ name, in, want string }{
		{"not JSON", `{"kind"`, "unexpected end of JSON input"},
		{"a list", `[]`, "body is not an object"},
		{"null", `null`, "body is not an object"},
		{"nothing known", `{}`, "kind cannot be empty; metadata.name cannot be empty"},
		{"no kind", `{"apiVersion":"kuma.io/v1alpha1","metadata":{"name":"a"}}`, "kind cannot be empty"},
		{"a foreign kind", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}`, `apiVersion Pod of "v1" is no resource of a mesh: want kuma.io/v1alpha1`},
		{"no version", `{"kind":"Mesh","metadata":{"name":"a"}}`, `apiVersion Mesh of "" is no resource of a mesh`},
		{"a later version", `{"apiVersion":"kuma.io/v2","kind":"Mesh","metadata":{"name":"a"}}`, `apiVersion Mesh of "kuma.io/v2" is no resource`},
		{"no metadata", `{"apiVersion":"kuma.io/v1alpha1","kind":"Mesh"}`, "metadata.name cannot be empty"},
		{"a name that is no text", head + `"metadata":{"name":1}}`, `metadata.name in body must be of type string: "number"`},
		{"a label that is no text", head + `"metadata":{"name":"a","labels":{"b":1}}}`, `metadata.labels.b in body must be of type string: "number"`},
		{"two meshes", head + `"metadata":{"name":"a","labels":{"kuma.io/mesh":"n"}}}`, `metadata.labels["kuma.io/mesh"] must not differ from mesh m`},
		{"another name in the spec", head + `"metadata":{"name":"a"},"spec":{"name":"b","Mesh":"c"}}`, "spec.Mesh is not a field of the spec; spec.name is not a field of the spec"},
		{"a spec that is a list", head + `"metadata":{"name":"a"},"spec":[]}`, `spec in body must be of type object: "array"`},
		{"a key twice", head + `"metadata":{"name":"a","name":"b"}}`, `key "name" is given twice`},
		{"deep", head + `"metadata":{"name":"a"},"spec":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, "nested deeper than 100 levels"},
		{"not UTF-8", head + "\"metadata\":{\"name\":\"a\xff\"}}", "not UTF-8"},
		{"an ordinary secret", `{"apiVersion":"v1","kind":"Secret","type":"Opaque","metadata":{"name":"a"},"data":{"value":"YQ=="}}`, "type must be system.kuma.io/secret or system.kuma.io/global-secret"},
		{"a secret of another version", `{"apiVersion":"kuma.io/v1alpha1","kind":"Secret","type":"system.kuma.io/secret","metadata":{"name":"a"},"data":{"value":"YQ=="}}`, "apiVersion Secret of"},
		{"a secret that is no base64", `{"apiVersion":"v1","kind":"Secret","type":"system.kuma.io/secret","metadata":{"name":"a"},"data":{"value":"."}}`, "data.value"},
		{"a global secret by its universal name", `{"apiVersion":"kuma.io/v1alpha1","kind":"GlobalSecret","metadata":{"name":"a"},"spec":{"data":"YQ=="}}`, "apiVersion GlobalSecret of"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := resource.UniversalFromKubernetes([]byte(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) || got != nil {
				t.Errorf("got %s, %v, want %s", got, err, tt.want)
			}
		})
	}
}

// TestUniversalFromKubernetesNamesTheKind: the faults are a *DecodeError, as those of Decode.
func TestUniversalFromKubernetesNamesTheKind(t *testing.T) {
	_, _, err := resource.UniversalFromKubernetes([]byte(`{"apiVersion":"v2","kind":"Mesh","metadata":{"name":"a"}}`))
	if bad, ok := errors.AsType[*resource.DecodeError](err); !ok || bad.Kind != resource.KindMesh || len(bad.Faults) != 1 {
		t.Errorf("got %#v", err)
	}
}

func TestKeepHidden(t *testing.T) {
	old := &resource.Resource{Meta: resource.Meta{Labels: map[string]string{
		resource.LabelMesh: "m", resource.LabelOrigin: "zone", resource.LabelZone: "z", "team": "a",
	}}}
	next := &resource.Resource{Meta: resource.Meta{Labels: map[string]string{resource.LabelZone: "given"}}}
	resource.KeepHidden(old, next)
	want := map[string]string{resource.LabelMesh: "m", resource.LabelOrigin: "zone", resource.LabelZone: "given"}
	if diff := cmp.Diff(want, next.Labels); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	empty := &resource.Resource{}
	resource.KeepHidden(&resource.Resource{}, empty)
	if empty.Labels != nil {
		t.Errorf("labels from nowhere: %v", empty.Labels)
	}
}

// FuzzUniversalFromKubernetes feeds arbitrary objects: what is taken decodes or is refused by name, and says the same
// when it is written in the Kubernetes form again.
func FuzzUniversalFromKubernetes(f *testing.F) {
	for _, c := range slices.Concat(captured, capturedZones) {
		f.Add([]byte(c.kubernetes))
	}
	f.Add([]byte(`{"apiVersion":"kuma.io/v1alpha1","kind":"MeshTLS","metadata":{"name":"a","labels":{"kuma.io/mesh":"m"}},"spec":{}}`))
	reg := registry()
	f.Fuzz(func(t *testing.T, data []byte) {
		universal, namespace, err := resource.UniversalFromKubernetes(data)
		if err != nil {
			if universal != nil || namespace != "" {
				t.Fatalf("both a resource and an error: %v", err)
			}
			return
		}
		r, err := reg.Decode(universal)
		if err != nil || r.Kind == resource.KindConfig {
			return // a Config has no such form
		}
		form, err := reg.EncodeKubernetes(r, namespace)
		if err != nil {
			t.Fatalf("encode what was decoded: %v\n%s", err, universal)
		}
		again, _, err := resource.UniversalFromKubernetes(form)
		if err != nil {
			t.Fatalf("decode what was encoded: %v\n%s", err, form)
		}
		back, err := reg.Decode(again)
		if err != nil {
			t.Fatalf("%v\n%s", err, again)
		}
		resource.KeepHidden(r, back)
		r.CreationTime, r.ModificationTime = back.CreationTime, back.ModificationTime
		// Compared as JSON: an empty map and none are the same there.
		want, err := reg.Encode(r, resource.FormUniversal)
		if err != nil {
			t.Fatal(err)
		}
		got, err := reg.Encode(back, resource.FormUniversal)
		if err != nil || !bytes.Equal(want, got) {
			t.Fatalf("got %s, %v, want %s", got, err, want)
		}
	})
}
