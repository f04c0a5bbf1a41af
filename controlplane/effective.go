package controlplane

import (
	_ "embed" // the settings that 2.9 has besides ours
	"encoding/json"
	"strings"
)

// otherSettings are the settings of Kuma 2.9 that this control plane does not have, with the values that say what it does
// (contract controlplane.md, appendix A): tools and the GUI look for them in GET /config.
//
//go:embed effective.json
var otherSettings []byte

// masked stands for a secret, as in 2.9.
const masked = "*****"

// Effective returns the whole configuration in the shape of 2.9, without secrets.
func (c *Config) Effective() map[string]any {
	shown := *c
	if shown.BootstrapServer.Params.XDSPort == 0 {
		shown.BootstrapServer.Params.XDSPort = shown.DPServer.Port
	}
	var out, own map[string]any
	text, err := json.Marshal(shown)
	if err == nil {
		err = json.Unmarshal(text, &own)
	}
	if err == nil {
		err = json.Unmarshal(otherSettings, &out)
	}
	if err != nil {
		panic(err) // both are ours, and have no value that JSON cannot hold
	}
	overlay(out, own)
	blank(out)
	return out
}

// overlay puts the values of from over those of into.
func overlay(into, from map[string]any) {
	for key, value := range from {
		inner, isMap := value.(map[string]any)
		below, hasMap := into[key].(map[string]any)
		if isMap && hasMap {
			overlay(below, inner)
		} else {
			into[key] = value
		}
	}
}

// blank hides what a person would not show. Our own configuration has no such field; one that gets it is safe from the start.
func blank(settings map[string]any) {
	for key, value := range settings {
		switch value := value.(type) {
		case map[string]any:
			blank(value)
		case string:
			lower := strings.ToLower(key)
			if value != "" && (strings.HasSuffix(lower, "password") || strings.HasSuffix(lower, "secret") || strings.HasSuffix(lower, "token")) {
				settings[key] = masked
			}
		}
	}
}
