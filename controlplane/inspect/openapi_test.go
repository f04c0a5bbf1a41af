package inspect

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// TestOpenAPI: the document describes every answer that this package gives, and they are what it says.
func TestOpenAPI(t *testing.T) {
	input, err := os.ReadFile(captured + "/14-shadow/input.yaml")
	if err != nil {
		t.Fatal(err)
	}
	g := start(t, input)
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
		name := map[bool]string{true: "web-1", false: "real"}[strings.Contains(path, "/dataplanes/{name}")]
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
	for _, path := range []string{"_rules", "rules", "policies", "_config", "xds", "stats", "clusters"} {
		if op := doc.Paths["/meshes/{mesh}/dataplanes/{name}/"+path]["get"]; !slices.Equal(op.Tags, []string{"Inspect"}) {
			t.Errorf("%s is not described", path)
		}
	}
}
