package meshproxypatch

import (
	"encoding/json"

	"sigs.k8s.io/yaml"
)

// ValueJSON turns the YAML of a Change.Value into one JSON object. An empty document is the empty object. The texts of
// errors are those of the parsers, which users of Kuma know.
func ValueJSON(value string) ([]byte, error) {
	object, err := yaml.YAMLToJSON([]byte(value))
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return nil, err
	}
	if fields == nil {
		return []byte("{}"), nil
	}
	return object, nil
}
