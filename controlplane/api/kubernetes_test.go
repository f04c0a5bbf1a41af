package api_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/resource"
)

const (
	kubernetesTimeout = `{"apiVersion":"kuma.io/v1alpha1","kind":"MeshTimeout","metadata":{"name":"x","labels":{"kuma.io/mesh":"default"}},"spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"5s"}}]}}`
	timeoutPath       = "/meshes/default/meshtimeouts/x"
)

// TestPutKubernetesForm: a body in the Kubernetes form stores what the universal one does.
func TestPutKubernetesForm(t *testing.T) {
	_, networking, _ := strings.Cut(dataplane, `"networking":`)
	for _, tt := range []struct{ name, path, universal, kubernetes string }{
		{"policy", timeoutPath, timeout, kubernetesTimeout},
		{"policy without a mesh", timeoutPath, timeout, strings.Replace(kubernetesTimeout, `,"labels":{"kuma.io/mesh":"default"}`, "", 1)},
		{
			"older kind", "/meshes/default/dataplanes/backend-1", dataplane,
			`{"apiVersion":"kuma.io/v1alpha1","kind":"Dataplane","mesh":"default","metadata":{"name":"backend-1","namespace":"kuma-system"},"spec":{"networking":` + networking + `}`,
		},
		{"mesh", "/meshes/m", `{"type":"Mesh","name":"m","meshServices":{"mode":"Exclusive"}}`, `{"apiVersion":"kuma.io/v1alpha1","kind":"Mesh","metadata":{"name":"m"},"spec":{"meshServices":{"mode":"Exclusive"}}}`},
		{
			"secret", "/meshes/default/secrets/s", `{"type":"Secret","mesh":"default","name":"s","data":"eA=="}`,
			`{"apiVersion":"v1","kind":"Secret","type":"system.kuma.io/secret","metadata":{"name":"s","labels":{"kuma.io/mesh":"default"}},"data":{"value":"eA=="}}`,
		},
		{
			"global secret", "/global-secrets/s", `{"type":"GlobalSecret","name":"s","data":"eA=="}`,
			`{"apiVersion":"v1","kind":"Secret","type":"system.kuma.io/global-secret","metadata":{"name":"s"},"data":{"value":"eA=="}}`,
		},
		{
			"a person's labels", timeoutPath, strings.Replace(timeout, `"spec"`, `"labels":{"team":"a"},"spec"`, 1),
			strings.Replace(kubernetesTimeout, `"labels":{`, `"labels":{"team":"a",`, 1),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			universal, kubernetes := start(t), start(t)
			if a := universal.do("PUT", tt.path, tt.universal); a.status != 201 {
				t.Fatalf("universal: got %d %s", a.status, a.body)
			}
			for _, format := range []string{"?format=kubernetes", "?format=k8s"} {
				if a := kubernetes.do("PUT", tt.path+format, tt.kubernetes); a.status != 201 && format == "?format=kubernetes" || a.status != 200 && format == "?format=k8s" {
					t.Fatalf("%s: got %d %s", format, a.status, a.body)
				}
				same(t, format, kubernetes.do("GET", tt.path, "").body, universal.do("GET", tt.path, "").body)
			}
		})
	}
}

// TestKubernetesFormRoundTrip: writing back what was read changes nothing, not even the labels that the form hides.
func TestKubernetesFormRoundTrip(t *testing.T) {
	g := start(t)
	everyKind(t, g.store, registry())
	for _, d := range registry().All() {
		if d.Hidden || d.ReadOnly {
			continue
		}
		path := "/" + d.Path + "/one"
		if d.Scope == resource.ScopeMesh {
			path = "/meshes/default" + path
		}
		key := resource.Key{Kind: d.Kind, Name: "one"}
		if d.Scope == resource.ScopeMesh {
			key.Mesh = "default"
		}
		was, err := g.store.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		for _, query := range []string{"?format=kubernetes", "?format=k8s&namespace=other"} {
			a := g.do("PUT", path+query, g.do("GET", path+query, "").body)
			if a.status == 400 && resource.ValidateUpdate(was) != nil {
				continue // made without its spec: not valid in any form
			}
			if a.status != 200 {
				t.Errorf("%s: got %d %s", path, a.status, a.body)
				continue
			}
			now, err := g.store.Get(key)
			if err != nil {
				t.Fatal(err)
			}
			want := was.Clone()
			if d.Kind == resource.KindDataplane {
				resource.ComputeLabels(want, resource.ZoneInfo{Zone: "zone-1"})
			}
			resource.SetDefaults(want, resource.ZoneInfo{Zone: "zone-1"})
			want.Version, want.ModificationTime = now.Version, now.ModificationTime
			if diff := cmp.Diff(want, now); diff != "" {
				t.Errorf("%s%s (-want +got):\n%s", path, query, diff)
			}
		}
	}
	g.put(timeoutPath, timeout)
	before := g.do("GET", timeoutPath, "").body
	g.put(timeoutPath+"?format=k8s", g.do("GET", timeoutPath+"?format=k8s", "").body)
	if after := g.do("GET", timeoutPath, "").body; plain(after) == nil || cmp.Diff(plain(before), plain(after)) != "" || !strings.Contains(after, "kuma.io/origin") {
		t.Errorf("got %s, want %s", after, before)
	}
}

func TestPutKubernetesFormFaults(t *testing.T) {
	g := start(t, func(c *api.Config) { c.Zone.Zone = "zone-1" })
	before := everything(g.store)
	for _, tt := range []struct{ name, path, body, field, reason string }{
		{"wrong apiVersion", timeoutPath + "?format=k8s", strings.Replace(kubernetesTimeout, "v1alpha1", "v2", 1), "apiVersion", `MeshTimeout of "kuma.io/v2" is no resource of a mesh: want kuma.io/v1alpha1`},
		{"unknown kind", timeoutPath + "?format=k8s", strings.Replace(kubernetesTimeout, "MeshTimeout", "MeshNope", 1), "type", "type from the URL has to be the same as in body"},
		{"another kind", timeoutPath + "?format=k8s", strings.Replace(kubernetesTimeout, "MeshTimeout", "MeshTrafficPermission", 1), "type", "type from the URL has to be the same as in body"},
		{"another name", timeoutPath + "?format=k8s", strings.Replace(kubernetesTimeout, `"x"`, `"y"`, 1), "name", "name from the URL has to be the same as in body"},
		{"name.namespace", "/meshes/default/meshtimeouts/x.other?format=k8s", strings.Replace(kubernetesTimeout, `"x"`, `"x","namespace":"kuma-system"`, 1), "name", "name from the URL has to be the same as in body"},
		{"another namespace", timeoutPath + "?format=k8s", strings.Replace(kubernetesTimeout, `"x"`, `"x","namespace":"other"`, 1), "metadata.namespace", "must be kuma-system: this control plane has no namespaces"},
		{"another namespace than asked for", timeoutPath + "?format=k8s&namespace=a", strings.Replace(kubernetesTimeout, `"x"`, `"x","namespace":"kuma-system"`, 1), "metadata.namespace", "must be a: this control plane has no namespaces"},
		{"another mesh", timeoutPath + "?format=k8s", strings.Replace(kubernetesTimeout, `"default"`, `"other"`, 1), "mesh", "mesh from the URL has to be the same as in body"},
		{"two meshes", timeoutPath + "?format=k8s", strings.Replace(kubernetesTimeout, `"spec"`, `"mesh":"other","spec"`, 1), `metadata.labels["kuma.io/mesh"]`, "must not differ from mesh other"},
		{"the universal form", timeoutPath + "?format=k8s", timeout, "kind", "cannot be empty"},
		{"the Kubernetes form without the query", timeoutPath, kubernetesTimeout, "type", "type from the URL has to be the same as in body"},
		{"an unknown form", timeoutPath + "?format=xml", timeout, "", `"format" must be one of ["k8s", "kubernetes", "universal"]`},
		{"schema before name", timeoutPath + "?format=k8s", strings.Replace(strings.Replace(kubernetesTimeout, `"x"`, `"y"`, 1), `"5s"`, `5`, 1), "spec.to[0].default.connectionTimeout", `in body must be of type string: "number"`},
		{"semantics", timeoutPath + "?format=k8s", strings.Replace(kubernetesTimeout, `"to":[`, `"targetRef":{"kind":"Mesh"},"x":[`, 1), "spec", "at least one of 'from', 'to' has to be defined"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := g.do("PUT", tt.path, tt.body)
			body, _ := plain(a.body).(map[string]any)
			faults, _ := body["invalid_parameters"].([]any)
			if a.status != 400 || len(faults) == 0 {
				t.Fatalf("got %d %s", a.status, a.body)
			}
			want := map[string]any{"field": tt.field, "reason": tt.reason}
			if diff := cmp.Diff(any(want), faults[0]); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	if a := g.do("PUT", timeoutPath+"?format=k8s", `[]`); a.status != 400 || !strings.Contains(a.body, `"title": "Bad Request"`) {
		t.Errorf("a list: got %d %s", a.status, a.body)
	}
	if diff := cmp.Diff(before, everything(g.store)); diff != "" {
		t.Errorf("the store has changed:\n%s", diff)
	}
}
