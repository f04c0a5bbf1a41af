package inspect

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/kuma-dp/kuma-dp/controlplane/xds"
)

// TestOpenAPI: the document describes every answer that this package gives, and they are what it says.
func TestOpenAPI(t *testing.T) {
	input, err := os.ReadFile(captured + "/14-shadow/input.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, append(input, zoneProxies...))
	g.proxies.statuses = map[string]*xds.Status{"web-1": refusing("MeshTimeout", "real")}
	_, _, text := g.get("/_openapi")
	var doc struct {
		Paths map[string]map[string]struct {
			Tags       []string
			Summary    string
			Parameters []struct {
				Name   string
				Schema any
			}
			Responses map[string]struct{ Content map[string]any }
		}
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil {
		t.Fatal(err)
	}
	whole, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	schemas := jsonschema.NewCompiler()
	if err := schemas.AddResource("doc:///openapi", whole); err != nil {
		t.Fatal(err)
	}
	described, asked := 0, 0
	for path, methods := range doc.Paths {
		op := methods["get"]
		if !slices.Equal(op.Tags, []string{"Inspect"}) {
			continue
		}
		described++
		if op.Summary == "" || len(op.Responses["200"].Content) == 0 {
			t.Errorf("%s: the answer is not described", path)
		}
		for _, p := range op.Parameters {
			if p.Schema == nil {
				t.Errorf("%s: the parameter %s is not described", path, p.Name)
			}
		}
		name := "real"
		switch {
		case strings.Contains(path, "/dataplanes/{name}"):
			name = "web-1"
		case strings.Contains(path, "/zoneingresses/"):
			name = "zi"
		case strings.Contains(path, "/zoneegresses/"):
			name = "ze"
		}
		status, header, body := g.get(strings.NewReplacer("{mesh}", "c14", "{name}", name).Replace(path))
		if status != http.StatusOK || !strings.HasPrefix(header.Get("Content-Type"), "application/json") {
			continue // not in this world
		}
		asked++
		place := strings.NewReplacer("~", "~0", "/", "~1", "{", "%7B", "}", "%7D").Replace(path)
		s, err := schemas.Compile("doc:///openapi#/paths/" + place + "/get/responses/200/content/application~1json/schema")
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
		if err == nil {
			err = s.Validate(value)
		}
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	if described < 10 || asked < 5 {
		t.Errorf("%d endpoints are described, %d were asked", described, asked)
	}
	for _, path := range []string{"_rules", "rules", "policies", "_config", "xds", "stats", "clusters", "_status"} {
		if op := doc.Paths["/meshes/{mesh}/dataplanes/{name}/"+path]["get"]; !slices.Equal(op.Tags, []string{"Inspect"}) {
			t.Errorf("%s is not described", path)
		}
	}
	for _, path := range []string{
		"/zoneingresses/{name}/xds", "/zoneegresses/{name}/stats", "/zoneegresses/{name}/clusters", "/zoneingresses/{name}/_status",
		"/meshes/{mesh}/meshproxypatches/{name}/_status", "/meshes/{mesh}/meshtlses/{name}/_status",
	} {
		if op := doc.Paths[path]["get"]; !slices.Equal(op.Tags, []string{"Inspect"}) {
			t.Errorf("%s is not described", path)
		}
	}
}
