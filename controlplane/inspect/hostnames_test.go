package inspect

import (
	"net/http"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

const named = `
type: Mesh
name: m
---
type: MeshService
mesh: m
name: redis
labels: {kuma.io/origin: zone, team: gold, kuma.io/zone: east}
spec: {selector: {dataplaneTags: {kuma.io/service: redis}}, ports: [{port: 6379}]}
---
type: MeshExternalService
mesh: m
name: bank
spec: {match: {type: HostnameGenerator, port: 443, protocol: tcp}, endpoints: [{address: bank.example, port: 443}]}
---
type: MeshMultiZoneService
mesh: m
name: all
labels: {team: none}
spec: {selector: {meshService: {matchLabels: {team: gold}}}, ports: [{port: 6379}]}
---
type: HostnameGenerator
name: a
spec: {selector: {meshService: {matchLabels: {team: gold}}}, template: '{{ .DisplayName }}.svc.{{ .Zone }}.mesh.local'}
---
type: HostnameGenerator
name: b
spec: {selector: {meshService: {}}, template: 'a.{{ .Mesh }}.x'}
---
type: HostnameGenerator
name: c
spec: {selector: {meshService: {}}, template: 'a.m.x'}
---
type: HostnameGenerator
name: d
spec: {selector: {meshService: {matchLabels: {team: silver}}}, template: 'd.x'}
---
type: HostnameGenerator
name: e
spec: {selector: {meshExternalService: {}}, template: '{{ label "nolabel" }}.x'}
---
type: HostnameGenerator
name: f
spec: {selector: {meshMultiZoneService: {matchLabels: {team: gold}}}, template: 'x'}
`

func TestHostnames(t *testing.T) {
	g := start(t, []byte(named))
	for _, tt := range []struct {
		path   string
		status int
		want   string
	}{
		{"meshservices/redis", http.StatusOK, `{"total":2,"items":[
			{"hostname":"a.m.x","zones":[{"name":"zone-a"}]},{"hostname":"redis.svc.east.mesh.local","zones":[{"name":"zone-a"}]}]}`},
		{"meshmultizoneservices/all", http.StatusOK, `{"total":0,"items":null}`},
		{"meshexternalservices/bank", http.StatusBadRequest, `{"type":"/std-errors","status":400,"title":"could not generate hostname",
			"detail":"HostnameGenerator e: pre evaluation of template with parameters failed with error=\"template: :1:3: executing \\\"\\\" at <label \\\"nolabel\\\">: error calling label: label nolabel not found\"",
			"details":"HostnameGenerator e: pre evaluation of template with parameters failed with error=\"template: :1:3: executing \\\"\\\" at <label \\\"nolabel\\\">: error calling label: label nolabel not found\""}`},
		{"meshservices/none", http.StatusNotFound, `{"type":"/std-errors","status":404,"title":"Could not retrieve a resource","detail":"Not found","details":"Not found"}`},
		{"meshtimeouts/t", http.StatusBadRequest, otherType},
		{"dataplanes/web-1", http.StatusBadRequest, otherType},
		{"meshgateways/web-1", http.StatusBadRequest, otherType},
	} {
		status, _, body := g.get("/meshes/m/" + tt.path + "/_hostnames")
		if status != tt.status || !gocmp.Equal(plain(t, tt.want), plain(t, body)) {
			t.Errorf("%s: got %d %s", tt.path, status, body)
		}
	}
	if status, _, body := g.get("/meshes/other/meshservices/redis/_hostnames"); status != http.StatusNotFound {
		t.Errorf("another mesh: got %d %s", status, body)
	}
}

const otherType = `{"type":"/std-errors","status":400,"title":"only \"meshservices,meshexternalservices,meshmultizoneservices\" are available for inspection",
	"detail":"Bad Request","details":"Bad Request"}`
