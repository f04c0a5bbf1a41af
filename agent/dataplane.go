package agent

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kuma-dp/kuma-dp/agent/mustache"
	"github.com/kuma-dp/kuma-dp/internal/yamljson"
)

// maxResource bounds a Dataplane definition, in bytes.
const maxResource = 1 << 20

// resourceKinds is which kind of resource a proxy type needs.
var resourceKinds = map[string]string{"dataplane": "Dataplane", "ingress": "ZoneIngress", "egress": "ZoneEgress"}

// readResource returns the rendered resource as JSON, or "" when none is given, and takes mesh and name from it
// (contract agent.md §1.4, §1.5).
func (c *Config) readResource(stdin io.Reader) (string, error) {
	kind, ok := resourceKinds[c.Dataplane.ProxyType]
	if !ok {
		return "", configError{fmt.Sprintf("invalid proxy type %q", c.Dataplane.ProxyType)}
	}
	template, err := c.resourceText(stdin)
	if err != nil || strings.TrimSpace(template) == "" {
		if err == nil {
			c.DataplaneRuntime.Resource, c.DataplaneRuntime.ResourcePath = "", ""
			err = c.Validate() // now name and mesh must have been given
		}
		return "", err
	}
	text, err := render(template, c.DataplaneRuntime.ResourceVars)
	if err != nil {
		return "", err
	}
	asJSON, err := yamljson.ToJSON([]byte(text))
	if err != nil {
		return "", configError{fmt.Sprintf("parse dataplane resource of %s: %s", c.resourceSource(), strings.Join(strings.Fields(err.Error()), " "))}
	}
	var meta struct{ Type, Mesh, Name string }
	if err := json.Unmarshal(asJSON, &meta); err != nil {
		return "", configError{fmt.Sprintf("parse dataplane resource of %s: type, mesh and name must be texts at the top level: %v", c.resourceSource(), err)}
	}
	if meta.Type != kind {
		return "", configError{fmt.Sprintf("invalid proxy resource type %q, expected %s", meta.Type, kind)}
	}
	if c.Dataplane.Name != "" || c.Dataplane.Mesh != "" {
		return "", configError{"--name and --mesh cannot be specified when a dataplane definition is provided, mesh and name will be read from the dataplane definition"}
	}
	if meta.Name == "" {
		return "", configError{"parse dataplane resource of " + c.resourceSource() + ": name must be non-empty"}
	}
	if kind == "Dataplane" && meta.Mesh == "" {
		return "", configError{"parse dataplane resource of " + c.resourceSource() + ": mesh must be non-empty"}
	}
	c.Dataplane.Name, c.Dataplane.Mesh = meta.Name, meta.Mesh
	if kind != "Dataplane" {
		c.Dataplane.Mesh = ""
	}
	return string(asJSON), nil
}

// resourceSource says where the resource comes from, for errors.
func (c *Config) resourceSource() string {
	switch path := c.DataplaneRuntime.ResourcePath; path {
	case "":
		return "--dataplane"
	case "-":
		return "standard input"
	default:
		return path
	}
}

func (c *Config) resourceText(stdin io.Reader) (string, error) {
	path := c.DataplaneRuntime.ResourcePath
	var from io.Reader
	switch path {
	case "":
		return c.DataplaneRuntime.Resource, nil
	case "-":
		from, path = stdin, "standard input"
	default:
		f, err := os.Open(path)
		if err != nil {
			return "", configError{fmt.Sprintf("read dataplane resource: %v: check --dataplane-file", err)}
		}
		defer f.Close()
		from = f
	}
	b, err := io.ReadAll(io.LimitReader(from, maxResource+1))
	if err != nil {
		return "", configError{fmt.Sprintf("read dataplane resource from %s: %v", path, err)}
	}
	if len(b) > maxResource {
		return "", configError{fmt.Sprintf("read dataplane resource from %s: more than %d bytes", path, maxResource)}
	}
	return string(b), nil
}

// render fills in a Mustache template. Values with control characters are refused: a line break would let a variable
// write YAML of its own (demands.md §3.3, assertion 22).
func render(template string, vars map[string]string) (string, error) {
	nested := map[string]any{}
	for name, value := range vars {
		if strings.IndexFunc(value, func(r rune) bool { return r < 0x20 || r == 0x7f }) >= 0 {
			return "", configError{fmt.Sprintf("variable %s of the dataplane template holds a control character", name)}
		}
		if err := nest(nested, strings.Split(name, "."), value); err != nil {
			return "", configError{fmt.Sprintf("variable %s of the dataplane template: %v", name, err)}
		}
	}
	text, err := mustache.Render(template, nested)
	if err != nil {
		return "", configError{fmt.Sprintf("render dataplane resource: %v", err)}
	}
	return text, nil
}

// nest stores a.b.c as nested maps. Kuma overwrites one of a.b and a.c with the other.
func nest(into map[string]any, path []string, value string) error {
	for _, key := range path[:len(path)-1] {
		next, ok := into[key].(map[string]any)
		if !ok {
			if into[key] != nil {
				return fmt.Errorf("%s has both a value and parts", key)
			}
			next = map[string]any{}
			into[key] = next
		}
		into = next
	}
	last := path[len(path)-1]
	if into[last] != nil {
		return fmt.Errorf("%s has both a value and parts", last)
	}
	into[last] = value
	return nil
}
