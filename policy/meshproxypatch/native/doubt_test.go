package native_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kuma-dp/kuma-dp/internal/realenvoy"
	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch/native"
)

// TestDoubts: what is said that Envoy will refuse, the real one refuses, and what it takes nothing is said about.
func TestDoubts(t *testing.T) {
	const (
		echo    = "typedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}"
		lua     = "typedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}"
		address = "address: {socketAddress: {address: 127.0.0.1, portValue: 7000}}"
		mine    = "MeshProxyPatch p0: appendModifications[0]: Envoy will refuse listener mine: "
		inbound = "MeshProxyPatch p0: appendModifications[0]: Envoy will refuse listener inbound:10.0.0.1:80: "
		// quiet are two chains that Envoy can tell apart.
		quiet = "filterChains: [{filters: [{name: e, " + echo + "}]}, {filterChainMatch: {transportProtocol: tls}, filters: [{name: e, " + echo + "}]}]"
	)
	add := func(value string) string { return `{listener: {operation: Add, value: "{name: mine, ` + value + `}"}}` }
	http := func(operation, name, value string) string {
		return "{httpFilter: {operation: " + operation + ", match: {listenerName: 'inbound:10.0.0.1:80', name: " + name + `}, value: "{name: l, ` + value + `}"}}`
	}
	network := func(operation, value string) string {
		return "{networkFilter: {operation: " + operation + `, match: {listenerName: 'inbound:10.0.0.1:80'}, value: "{name: mine, ` + value + `}"}}`
	}
	for _, tt := range []struct {
		name     string
		policies []string
		// want is the warning, envoy what Envoy says.
		want, envoy string
	}{
		{"good listener", []string{add(address + ", " + quiet)}, "", ""},
		{"default chain", []string{add(address + ", defaultFilterChain: {filters: [{name: e, " + echo + "}]}")}, "", ""},
		{"UDP", []string{add("address: {socketAddress: {protocol: UDP, address: 127.0.0.1, portValue: 7000}}, udpListenerConfig: {downstreamSocketConfig: {}}")}, "", ""},
		{"no address", []string{add(quiet)}, mine + "it has no address", "address is necessary"},
		{"no chains", []string{add(address)}, mine + "it has no filter chains", "no filter chains specified"},
		{
			"no chains, completed",
			[]string{add(address), "{listener: {operation: Patch, match: {name: mine}, value: \"{" + quiet + "}\"}}"},
			"", "",
		},
		{
			"same match",
			[]string{"{listener: {operation: Patch, match: {name: 'inbound:10.0.0.1:80'}, value: \"{filterChains: [{name: extra, filters: [{name: e, " + echo + "}]}]}\"}}"},
			inbound + "filterChains[0] and filterChains[1] have the same filterChainMatch", "same matching rules",
		},
		{"before the router", []string{http("AddBefore", "envoy.filters.http.router", lua)}, "", ""},
		{"after the router", []string{http("AddLast", "x", lua)}, inbound + "filter envoy.filters.http.router must be the last of its list", "must be the last filter"},
		{
			"after the router, the router moved", []string{http("AddLast", "x", lua) + ", {httpFilter: {operation: Remove, match: {name: envoy.filters.http.router}}}, " +
				http("AddLast", "x", "typedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}")}, "", "",
		},
		{"terminal network filter first", []string{network("AddFirst", echo)}, inbound + "filter mine must be the last of its list", "must be the last filter"},
		{
			"of two policies",
			[]string{http("AddBefore", "envoy.filters.http.router", lua), network("AddLast", echo)},
			"MeshProxyPatch p1: appendModifications[0]: Envoy will refuse listener inbound:10.0.0.1:80: filter envoy.filters.network.http_connection_manager must be the last of its list",
			"must be the last filter",
		},
		{
			"at all listeners, beside one that is left out",
			[]string{"{cluster: {operation: Patch, jsonPatches: [{op: replace, path: /a/b, value: 1}]}}, " + `{networkFilter: {operation: AddFirst, value: "{name: mine, ` + echo + `}"}}`},
			"MeshProxyPatch p0: appendModifications[1]: Envoy will refuse listeners inbound:10.0.0.1:80, inbound:10.0.0.1:90: filter mine must be the last of its list", "must be the last filter",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, warnings := native.NewPatcher(rules(t, tt.policies...)).Patch(parts(t))
			got := ""
			if len(warnings) > 0 {
				got = warnings[len(warnings)-1]
			}
			if got != tt.want {
				t.Errorf("warnings are %q, want %q", warnings, tt.want)
			}
			if said := judge(t, out); !strings.Contains(said, tt.envoy) || tt.envoy == "" && said != "" {
				t.Errorf("Envoy says %q, want %q", said, tt.envoy)
			}
		})
	}
}

// judge is what Envoy says against the listeners, "" when it takes them.
func judge(t *testing.T, parts []effect.Part) string {
	t.Helper()
	var listeners []json.RawMessage
	for _, p := range parts {
		l, ok := p.Message.(*listenerv3.Listener)
		if !ok || l.Name == kafkaListener { // Envoy's usual build has no filter for Kafka
			continue
		}
		b, err := protojson.MarshalOptions{Resolver: effect.Types{}}.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		listeners = append(listeners, b)
	}
	config, err := json.Marshal(map[string]any{
		"node": map[string]any{"id": "n", "cluster": "c"}, "staticResources": map[string]any{"listeners": listeners},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), realenvoy.ForTest(t), "--mode", "validate", "--config-path", file, "--log-level", "critical", "--disable-hot-restart")
	if text, err := cmd.CombinedOutput(); err != nil {
		return string(text)
	}
	return ""
}
