package controlplane

import (
	"encoding/json"
	"net/http"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestComputeRole(t *testing.T) {
	registry := resource.NewRegistry(all.Descriptors()...)
	conf := "default: {idleTimeout: 1s}"
	own := "{targetRef: {kind: MeshService, name: backend}, " + conf + "}"
	other := "{targetRef: {kind: MeshService, name: backend, namespace: b}, " + conf + "}"
	everybody := "{targetRef: {kind: Mesh}, " + conf + "}"
	for _, tt := range []struct {
		name, labels, spec string
		// want is the role in the end, or the fault.
		want  string
		fault string
	}{
		{"no namespace", "", "to: [" + own + "]", "", ""},
		{"forged", "kuma.io/policy-role: consumer", "to: [" + own + "]", "", ""},
		{"system namespace", "k8s.kuma.io/namespace: kuma-system", "to: [" + own + "], from: [" + everybody + "]", "system", ""},
		{"producer", "k8s.kuma.io/namespace: a", "to: [" + own + "]", "producer", ""},
		{"producer, forged", "k8s.kuma.io/namespace: a, kuma.io/policy-role: system", "to: [" + own + "]", "producer", ""},
		{"consumer of another namespace", "k8s.kuma.io/namespace: a", "to: [" + other + "]", "consumer", ""},
		{"consumer of all", "k8s.kuma.io/namespace: a", "to: [" + everybody + "]", "consumer", ""},
		{"consumer by labels", "k8s.kuma.io/namespace: a", "to: [{targetRef: {kind: MeshService, labels: {x: z}}, " + conf + "}]", "consumer", ""},
		{"consumer of external services", "k8s.kuma.io/namespace: a", "to: [{targetRef: {kind: MeshExternalService, name: x}, " + conf + "}]", "consumer", ""},
		{"workload owner", "k8s.kuma.io/namespace: a", "from: [" + everybody + "]", "workload-owner", ""},
		{"from elsewhere", "kuma.io/origin: global, k8s.kuma.io/namespace: a, kuma.io/policy-role: consumer", "to: [" + own + "]", "consumer", ""},
		{
			"both lists", "k8s.kuma.io/namespace: a", "to: [" + own + "], from: [" + everybody + "]", "",
			"spec: it's not allowed to mix 'to' and 'from' arrays in the same policy",
		},
		{
			"both sorts of items", "k8s.kuma.io/namespace: a", "to: [" + own + ", " + other + "]", "",
			"spec.to: it's not allowed to mix producer and consumer items in the same policy",
		},
		{
			"for system policies only", "k8s.kuma.io/namespace: a", "targetRef: {kind: MeshGateway, name: g}, to: [" + everybody + "]", "consumer",
			"spec.targetRef.kind: value is not supported",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := registry.DecodeYAML([]byte("{type: MeshTimeout, mesh: m, name: p, labels: {" + tt.labels + "}, spec: {" + tt.spec + "}}"))
			if err != nil {
				t.Fatal(err)
			}
			var want, got []string
			if tt.fault != "" {
				want = []string{tt.fault}
			}
			for _, f := range computeRole(r) {
				got = append(got, f.Field+": "+f.Reason)
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if got := r.Labels[resource.LabelPolicyRole]; got != tt.want {
				t.Errorf("role %q, want %q", got, tt.want)
			}
		})
	}
}

// TestRolesAreChecked: with computeRole a PUT is answered with the fault of a policy that can have no role, and one that has
// is stored with it. Hardened, nobody may put a policy into a namespace: all are system policies, with whatever lists.
func TestRolesAreChecked(t *testing.T) {
	const conf = `"default":{"idleTimeout":"1s"}`
	const own = `{"targetRef":{"kind":"MeshService","name":"backend"},` + conf + `}`
	const other = `{"targetRef":{"kind":"MeshService","name":"backend","namespace":"b"},` + conf + `}`
	const everybody = `{"targetRef":{"kind":"Mesh"},` + conf + `}`
	const inNamespace = `{"k8s.kuma.io/namespace":"a","kuma.io/policy-role":"system"}`
	none := map[string]string{}
	mixed := map[string]string{"spec.to": "it's not allowed to mix producer and consumer items in the same policy"}
	both := map[string]string{"spec": "it's not allowed to mix 'to' and 'from' arrays in the same policy"}
	refused := map[string]string{
		`labels["k8s.kuma.io/namespace"]`: "is given by control planes only", `labels["kuma.io/policy-role"]`: "is given by control planes only",
	}
	type put struct {
		name, labels, spec string
		role               string
		faults             map[string]string
	}
	for _, tt := range []struct {
		hardened bool
		puts     []put
	}{
		{false, []put{
			{"producer", inNamespace, `{"to":[` + own + `]}`, "producer", none},
			{"consumer", inNamespace, `{"to":[` + other + `]}`, "consumer", none},
			{"owner", inNamespace, `{"from":[` + everybody + `]}`, "workload-owner", none},
			{"mixed", inNamespace, `{"to":[` + own + `,` + other + `]}`, "", mixed},
			{"both", inNamespace, `{"to":[` + own + `],"from":[` + everybody + `]}`, "", both},
			{"system", `{}`, `{"to":[` + own + `,` + everybody + `],"from":[` + everybody + `]}`, "", none},
		}},
		{true, []put{
			{"producer", inNamespace, `{"to":[` + own + `]}`, "", refused},
			{"mixed", inNamespace, `{"to":[` + own + `,` + other + `]}`, "", refused},
			{"system", `{}`, `{"to":[` + own + `,` + everybody + `],"from":[` + everybody + `]}`, "", none},
		}},
	} {
		cfg := testConfig(t.TempDir())
		cfg.Store.Type, cfg.Policies.ComputeRole, cfg.APIServer.Hardened = StoreMemory, true, tt.hardened
		r := start(t, cfg)
		for _, p := range tt.puts {
			path := "/meshes/default/meshtimeouts/" + p.name
			status, body := r.answer("PUT", path, `{"type":"MeshTimeout","mesh":"default","name":"`+p.name+`","labels":`+p.labels+`,"spec":`+p.spec+`}`)
			var answer struct {
				Faults []struct{ Field, Reason string } `json:"invalid_parameters"`
			}
			if err := json.Unmarshal([]byte(body), &answer); body != "" && err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			faults := map[string]string{}
			for _, f := range answer.Faults {
				faults[f.Field] = f.Reason
			}
			if diff := gocmp.Diff(p.faults, faults); diff != "" {
				t.Errorf("hardened %v, %s: faults (-want +got):\n%s", tt.hardened, p.name, diff)
			}
			want, after := http.StatusCreated, http.StatusOK
			if len(p.faults) > 0 {
				want, after = http.StatusBadRequest, http.StatusNotFound
			}
			if status != want {
				t.Errorf("hardened %v, %s: got %d, want %d", tt.hardened, p.name, status, want)
			}
			var stored struct{ Labels map[string]string }
			status, body = r.answer("GET", path, "")
			if err := json.Unmarshal([]byte(body), &stored); err != nil || status != after || stored.Labels[resource.LabelPolicyRole] != p.role {
				t.Errorf("hardened %v, %s: stored is %d %s, want role %q", tt.hardened, p.name, status, body, p.role)
			}
		}
	}
}
