package resource_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/resource"
)

func registry() *resource.Registry { return resource.NewRegistry(resource.Core()...) }

// Bodies captured from Kuma 2.9.13 (contract controlplane.md appendix A), byte for byte.
var captured = []struct {
	name, universal, kubernetes string
}{
	{
		name: "mesh",
		universal: `{"type":"Mesh","name":"default","creationTime":"2026-11-23T01:59:50.789538984Z","modificationTime":"2026-11-23T02:00:40.175753656Z",` +
			`"mtls":{"enabledBackend":"ca-1","backends":[{"name":"ca-1","type":"builtin","dpCert":{"rotation":{"expiration":"1d"}},"conf":{"caCert":{"RSAbits":2048,"expiration":"10y"}},"mode":"PERMISSIVE"}]},` +
			`"networking":{"outbound":{"passthrough":true}},"meshServices":{"mode":"Exclusive"}}`,
		kubernetes: `{"kind":"Mesh","apiVersion":"kuma.io/v1alpha1","metadata":{"name":"default","creationTimestamp":"2026-11-23T01:59:50Z"},` +
			`"spec":{"mtls":{"enabledBackend":"ca-1","backends":[{"name":"ca-1","type":"builtin","dpCert":{"rotation":{"expiration":"1d"}},"conf":{"caCert":{"RSAbits":2048,"expiration":"10y"}},"mode":"PERMISSIVE"}]},` +
			`"networking":{"outbound":{"passthrough":true}},"meshServices":{"mode":"Exclusive"}}}`,
	},
	{
		name: "dataplane",
		universal: `{"type":"Dataplane","mesh":"default","name":"backend-1","creationTime":"2026-11-23T02:01:52.674137613Z","modificationTime":"2026-11-23T02:01:52.674137613Z",` +
			`"labels":{"kuma.io/env":"universal","kuma.io/mesh":"default","kuma.io/origin":"zone","kuma.io/zone":"zone-1"},` +
			`"networking":{"address":"10.77.0.2","inbound":[{"port":8080,"servicePort":8081,"serviceAddress":"127.0.0.1","tags":{"kuma.io/protocol":"http","kuma.io/service":"backend","kuma.io/zone":"zone-1","version":"v1"}}],` +
			`"transparentProxying":{"redirectPortInbound":25006,"redirectPortOutbound":25001},"admin":{"port":9922}}}`,
		kubernetes: `{"kind":"Dataplane","apiVersion":"kuma.io/v1alpha1","metadata":{"name":"backend-1","namespace":"kuma-system","creationTimestamp":"2026-11-23T02:01:52Z"},"mesh":"default",` +
			`"spec":{"networking":{"address":"10.77.0.2","inbound":[{"port":8080,"servicePort":8081,"serviceAddress":"127.0.0.1","tags":{"kuma.io/protocol":"http","kuma.io/service":"backend","kuma.io/zone":"zone-1","version":"v1"}}],` +
			`"transparentProxying":{"redirectPortInbound":25006,"redirectPortOutbound":25001},"admin":{"port":9922}}}}`,
	},
	{
		name: "meshservice",
		universal: `{"type":"MeshService","mesh":"default","name":"backend","creationTime":"2026-11-23T02:01:54.473989249Z","modificationTime":"2026-11-23T02:02:49.738898378Z",` +
			`"labels":{"kuma.io/display-name":"backend","kuma.io/env":"universal","kuma.io/managed-by":"meshservice-generator","kuma.io/mesh":"default","kuma.io/origin":"zone"},` + serviceBody,
		kubernetes: `{"kind":"MeshService","apiVersion":"kuma.io/v1alpha1","metadata":{"name":"backend","namespace":"kuma-system","creationTimestamp":"2026-11-23T02:01:54Z","labels":{"kuma.io/mesh":"default"}},` + serviceBody,
	},
	{
		name: "hostnamegenerator",
		universal: `{"type":"HostnameGenerator","name":"local","creationTime":"2026-11-23T01:59:50.916967158Z","modificationTime":"2026-11-23T01:59:50.916967158Z","labels":{"kuma.io/origin":"zone"},` +
			`"spec":{"selector":{"meshService":{"matchLabels":{"kuma.io/origin":"zone"}}},"template":"{{ .DisplayName }}.svc.mesh.local"}}`,
		kubernetes: `{"kind":"HostnameGenerator","apiVersion":"kuma.io/v1alpha1","metadata":{"name":"local","namespace":"kuma-system","creationTimestamp":"2026-11-23T01:59:50Z"},` +
			`"spec":{"selector":{"meshService":{"matchLabels":{"kuma.io/origin":"zone"}}},"template":"{{ .DisplayName }}.svc.mesh.local"}}`,
	},
	{
		name: "insight",
		universal: `{"type":"DataplaneInsight","mesh":"default","name":"backend-1","subscriptions":[{"id":"d52d4a1a-072f-4362-93ae-68419a711c7c","controlPlaneInstanceId":"vm-5a8d","connectTime":"2026-11-23T02:01:52.661245054Z",` +
			`"status":{"lastUpdateTime":"2026-11-23T02:02:50.797816345Z","total":{"responsesSent":"12","responsesAcknowledged":"15"},"cds":{"responsesSent":"4","responsesAcknowledged":"4"},"eds":{"responsesSent":"4","responsesAcknowledged":"7"},` +
			`"lds":{"responsesSent":"3","responsesAcknowledged":"3"},"rds":{}},"version":{"kumaDp":{"version":"unknown","gitTag":"unknown","gitCommit":"unknown","buildDate":"unknown","kumaCpCompatible":true},` +
			`"envoy":{"version":"1.40.0","build":"9e55"}}}],"mTLS":{"certificateExpirationTime":"2026-11-24T02:01:53Z","lastCertificateRegeneration":"2026-11-23T02:01:53.854817239Z","certificateRegenerations":1,"issuedBackend":"ca-1","supportedBackends":["ca-1"]}}`,
	},
	{
		name:       "secret",
		universal:  `{"type":"Secret","mesh":"default","name":"s","data":"aGk="}`,
		kubernetes: `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"s","namespace":"kuma-system","labels":{"kuma.io/mesh":"default"}},"type":"system.kuma.io/secret","data":{"value":"aGk="}}`,
	},
	{
		name:       "global secret",
		universal:  `{"type":"GlobalSecret","name":"s","data":"aGk="}`,
		kubernetes: `{"kind":"Secret","apiVersion":"v1","metadata":{"name":"s","namespace":"kuma-system"},"type":"system.kuma.io/global-secret","data":{"value":"aGk="}}`,
	},
	{name: "zone", universal: `{"type":"Zone","name":"zone-1"}`, kubernetes: `{"kind":"Zone","apiVersion":"kuma.io/v1alpha1","metadata":{"name":"zone-1"},"spec":{}}`},
	{name: "empty spec", universal: `{"type":"MeshService","mesh":"default","name":"s","spec":{}}`},
	{name: "html", universal: `{"type":"Config","name":"c","config":"<a>&'\u2028"}`},
	{
		name: "empty objects",
		universal: `{"type":"Dataplane","mesh":"m","name":"d","networking":{"address":"10.0.0.1","inbound":[{"port":1,"health":{},"serviceProbe":{"tcp":{}}}],` +
			`"gateway":{},"transparentProxying":{"reachableBackends":{}},"admin":{}},"metrics":{"a":[null]},"probes":{}}`,
	},
}

const serviceBody = `"spec":{"state":"Available","selector":{"dataplaneTags":{"kuma.io/service":"backend"}},"ports":[{"name":"8080","port":8080,"targetPort":8080,"appProtocol":"http"}],"identities":[{"type":"ServiceTag","value":"backend"}]},` +
	`"status":{"addresses":[{"hostname":"backend.svc.mesh.local","origin":"HostnameGenerator","hostnameGeneratorRef":{"coreName":"local-universal-mesh-service"}}],"vips":[{"ip":"241.0.0.1"}],"tls":{"status":"Ready"},` +
	`"hostnameGenerators":[{"hostnameGeneratorRef":{"coreName":"local-universal-mesh-service"},"conditions":[{"type":"Generated","status":"True","reason":"Generated","message":""}]}],"dataplaneProxies":{"connected":1,"healthy":1,"total":1}}}`

func TestCapturedBodiesRoundTrip(t *testing.T) {
	reg := registry()
	for _, tt := range slices.Concat(captured, capturedZones) {
		t.Run(tt.name, func(t *testing.T) {
			r, err := reg.Decode([]byte(tt.universal))
			if err != nil {
				t.Fatal(err)
			}
			got, err := reg.Encode(r, resource.FormUniversal)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.universal, string(got)); diff != "" {
				t.Errorf("universal form (-want +got):\n%s", diff)
			}
			if tt.kubernetes != "" {
				got, err := reg.Encode(r, resource.FormKubernetes)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.kubernetes, string(got)); diff != "" {
					t.Errorf("kubernetes form (-want +got):\n%s", diff)
				}
			}
			r.Version = 7
			owner := resource.Key{Kind: resource.KindMesh, Name: "default"}
			stored, err := reg.EncodeStored(r, owner)
			if err != nil {
				t.Fatal(err)
			}
			back, gotOwner, err := reg.DecodeStored(stored)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r, back); diff != "" || gotOwner != owner {
				t.Errorf("stored form, owner %v (-want +got):\n%s", gotOwner, diff)
			}
			if diff := cmp.Diff(r, r.Clone()); diff != "" {
				t.Errorf("clone (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDecodeIsStrict: what readers may understand in different ways is refused wherever a body comes from.
func TestDecodeIsStrict(t *testing.T) {
	deep := func(n int) string {
		return `{"type":"Mesh","name":"m","x":` + strings.Repeat("[", n-1) + strings.Repeat("]", n-1) + `}`
	}
	for name, tt := range map[string]struct{ body, want string }{
		"key twice":            {`{"type":"Mesh","name":"a","name":"b"}`, `key "name" is given twice`},
		"key twice by escape":  {`{"type":"Mesh","name":"a","na\u006de":"b"}`, `key "name" is given twice`},
		"key twice below":      {`{"type":"Mesh","name":"a","x":[{"y":1,"y":1}]}`, `key "y" is given twice`},
		"same key, apart":      {`{"type":"Mesh","name":"a","x":[{"y":1},{"y":{"y":"y"}}]}`, ""},
		"not UTF-8":            {"{\"type\":\"Mesh\",\"name\":\"\xff\"}", "not UTF-8"},
		"as deep as may be":    {deep(resource.MaxDepth), ""},
		"deeper":               {deep(resource.MaxDepth + 1), "nested deeper than 100 levels"},
		"two values":           {`{"type":"Mesh","name":"a"}{}`, "after top-level value"},
		"nothing":              {``, "unexpected end of JSON input"},
		"deeper than Go reads": {deep(20000), "exceeded max depth"},
	} {
		_, err := registry().Decode([]byte(tt.body))
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

func TestDecodeFaults(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		want       []resource.Violation
	}{
		{
			name: "number for string", body: `{"type":"Dataplane","mesh":"m","name":"d","networking":{"address":5,"inbound":[{"port":1},{"port":"x","tags":{"a":1}}]}}`,
			want: []resource.Violation{
				{Field: "networking.address", Reason: `in body must be of type string: "number"`},
				{Field: "networking.inbound[1].port", Reason: `in body must be of type integer: "string"`},
				{Field: "networking.inbound[1].tags.a", Reason: `in body must be of type string: "number"`},
			},
		},
		{
			name: "too large", body: `{"type":"Dataplane","mesh":"m","name":"d","networking":{"inbound":[{"port":-1}]}}`,
			want: []resource.Violation{{Field: "networking.inbound[0].port", Reason: "in body must be a whole number within uint32"}},
		},
		{
			name: "null in a list", body: `{"type":"Dataplane","mesh":"m","name":"d","networking":{"inbound":[null]}}`,
			want: []resource.Violation{{Field: "networking.inbound[0]", Reason: `in body must be of type object: "null"`}},
		},
		{
			name: "list for object", body: `{"type":"MeshService","mesh":"m","name":"s","spec":[]}`,
			want: []resource.Violation{{Field: "spec", Reason: `in body must be of type object: "array"`}},
		},
		{
			name: "object for list", body: `{"type":"MeshService","mesh":"m","name":"s","spec":{"ports":{}},"status":{"vips":[]}}`,
			want: []resource.Violation{{Field: "spec.ports", Reason: `in body must be of type array: "object"`}},
		},
		{
			name: "target port", body: `{"type":"MeshService","mesh":"m","name":"s","spec":{"ports":[{"port":1,"targetPort":1.5}]}}`,
			want: []resource.Violation{{Field: "spec.ports[0].targetPort", Reason: "value 1.5 is not a whole number within uint32"}},
		},
		{
			name: "labels", body: `{"type":"MeshService","mesh":"m","name":"s","labels":{"a":true}}`,
			want: []resource.Violation{{Field: "labels.a", Reason: `in body must be of type string: "boolean"`}},
		},
		{
			name: "status", body: `{"type":"MeshService","mesh":"m","name":"s","status":{"vips":[{"ip":1}]}}`,
			want: []resource.Violation{{Field: "status.vips[0].ip", Reason: `in body must be of type string: "number"`}},
		},
		{
			name: "counter", body: `{"type":"DataplaneInsight","mesh":"m","name":"s","subscriptions":[{"status":{"cds":{"responsesSent":4}}}]}`,
			want: []resource.Violation{{Field: "subscriptions[0].status.cds.responsesSent", Reason: `in body must be of type string: "number"`}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := registry().Decode([]byte(tt.body))
			bad, ok := errors.AsType[*resource.DecodeError](err)
			if !ok || r != nil {
				t.Fatalf("got %v, %v; want only a DecodeError", r, err)
			}
			if diff := cmp.Diff(tt.want, bad.Faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, body := range map[string]string{
		"nothing": "", "no JSON": "{", "two values": "{}{}", "list": "[]", "no type": `{"name":"a"}`, "null": "null",
		"unknown type": `{"type":"Foo","name":"a"}`,
	} {
		t.Run(name, func(t *testing.T) {
			if r, err := registry().Decode([]byte(body)); err == nil || r != nil {
				t.Errorf("got %v, %v; want only an error", r, err)
			}
		})
	}
	_, err := registry().Decode([]byte(`{"type":"Foo"}`))
	if unknown, ok := errors.AsType[*resource.UnknownKindError](err); !ok || unknown.Kind != "Foo" {
		t.Errorf("got %v, want an UnknownKindError for Foo", err)
	}
}

func TestDecodeDropsWhatItDoesNotKnow(t *testing.T) {
	r, err := registry().Decode([]byte(`{"type":"Zone","mesh":"m","name":"z","labels":{},"foo":1,"spec":{"bar":[]}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindZone, Name: "z"}}, Spec: &resource.Zone{}}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("resource (-want +got):\n%s", diff)
	}
}

func TestDecodeErrorNamesNoSecret(t *testing.T) {
	_, err := registry().Decode([]byte(`{"type":"Secret","mesh":"m","name":"s","data":"not base64 !!"}`))
	if err == nil || strings.Contains(err.Error(), "not base64") {
		t.Errorf("got %v, want an error without the data", err)
	}
}

func TestSplitYAML(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string
	}{
		{"nothing", "", nil},
		{"only comments", "# a\n---\n# b\n", nil},
		{"one", "a: 1", []string{"a: 1"}},
		{"two", "---\na: 1\n---\nb: 2\n", []string{"\na: 1\n", "\nb: 2\n"}},
		{"windows", "a: 1\r\n---\r\nb: 2\r\n", []string{"a: 1\r\n", "\r\nb: 2\r\n"}},
		{"on the marker's line", "--- {a: 1}\n--- # c\nb: 2", []string{" {a: 1}\n", " # c\nb: 2"}},
		{"end marker", "a: 1\n...\n%YAML 1.2\n---\nb: 2\n", []string{"a: 1\n", "\nb: 2\n"}},
		{"dashes inside", "a: |\n  ---\n  b\n----: 1\n", []string{"a: |\n  ---\n  b\n----: 1\n"}},
		{"empty between", "a: 1\n---\n\n---\nb: 2", []string{"a: 1\n", "\nb: 2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, doc := range resource.SplitYAML([]byte(tt.in)) {
				got = append(got, string(doc))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("documents (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeYAML(t *testing.T) {
	r, err := registry().DecodeYAML([]byte("# a zone\ntype: Zone\nname: z\nenabled: false\n"))
	if err != nil {
		t.Fatal(err)
	}
	if resource.SpecOf[*resource.Zone](r).IsEnabled() {
		t.Error("zone is enabled, want disabled")
	}
	// YAML 1.2: only true and false are booleans.
	r, err = registry().DecodeYAML([]byte("{type: Dataplane, name: d, mesh: m, networking: {address: 1.1.1.1, inbound: [{port: 1, tags: {on: y, n: off}}]}}"))
	if err != nil {
		t.Fatal(err)
	}
	if tags := resource.SpecOf[*resource.Dataplane](r).Networking.Inbound[0].Tags; tags["on"] != "y" || tags["n"] != "off" {
		t.Errorf("tags %v", tags)
	}
	for _, bad := range []string{"", "type: Zone\n---\ntype: Zone\n", "a: [", "- 1", "type: Zone\nname: z\nname: y\n"} {
		if _, err := registry().DecodeYAML([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestCloneSharesNothing(t *testing.T) {
	r, err := registry().Decode([]byte(captured[1].universal))
	if err != nil {
		t.Fatal(err)
	}
	c := r.Clone()
	c.Labels["new"] = "x"
	spec := resource.SpecOf[*resource.Dataplane](c)
	spec.Networking.Inbound[0].Tags["version"] = "v2"
	spec.Networking.Inbound[0].Port++
	spec.Networking.Admin.Port++
	got, err := registry().Encode(r, resource.FormUniversal)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != captured[1].universal {
		t.Errorf("the original changed with its clone: %s", got)
	}
}

func TestEncodeUnknown(t *testing.T) {
	r := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: "Foo"}}}
	for _, form := range []resource.Form{resource.FormUniversal, resource.FormKubernetes, "xml"} {
		if _, err := registry().Encode(r, form); err == nil {
			t.Errorf("format %s of an unknown kind was written", form)
		}
	}
	if _, err := registry().EncodeStored(r, resource.Key{}); err == nil {
		t.Error("an unknown kind was stored")
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "5ms": 5 * time.Millisecond, "30s": 30 * time.Second, "2m": 2 * time.Minute, "24h": 24 * time.Hour,
		"1d": 24 * time.Hour, "2w": 14 * 24 * time.Hour, "10y": 3650 * 24 * time.Hour, "292y": 292 * 365 * 24 * time.Hour,
	} {
		if got, err := resource.ParseDuration(in); err != nil || got != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "s", "1", "1h30m", "1.5h", "-1d", "1 d", "300y", "99999999999999999999s", "1µs"} {
		if got, err := resource.ParseDuration(in); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", in, got)
		}
	}
}
