package native_test

import (
	"testing"

	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch"
	"github.com/kuma-dp/kuma-dp/policy/meshproxypatch/native"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		name, target, value string
		whole               bool
		// want is the text of the error, empty for a good value.
		want string
	}{
		{name: "patch of one field", target: meshproxypatch.TargetCluster, value: "connect_timeout: 3s"},
		{name: "other spelling", target: meshproxypatch.TargetCluster, value: "connectTimeout: 3s"},
		{name: "empty patch", target: meshproxypatch.TargetListener},
		{name: "whole", target: meshproxypatch.TargetVirtualHost, value: "{name: a, domains: [b]}", whole: true},
		{name: "listener without address", target: meshproxypatch.TargetListener, value: "name: mine", whole: true},
		{name: "not whole", target: meshproxypatch.TargetVirtualHost, value: "{name: a}", whole: true, want: "invalid VirtualHost.Domains: value must contain at least 1 item(s)"},
		{name: "unknown field", target: meshproxypatch.TargetCluster, value: "foo: 3s", want: `unknown field "foo"`},
		{name: "wrong type", target: meshproxypatch.TargetCluster, value: "connectTimeout: [3]", want: "syntax error: unexpected token ["},
		{name: "lua", target: meshproxypatch.TargetHTTPFilter, value: "name: l\ntypedConfig:\n  '@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua\n  inlineCode: x\n", whole: true},
		{name: "echo", target: meshproxypatch.TargetNetworkFilter, value: "name: e\ntypedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}\n", whole: true},
		{name: "known by its description", target: meshproxypatch.TargetHTTPFilter, value: "name: k\ntypedConfig:\n  '@type': type.googleapis.com/envoy.extensions.filters.http.kill_request.v3.KillRequest\n  direction: RESPONSE\n", whole: true},
		{name: "unknown field in one", target: meshproxypatch.TargetHTTPFilter, value: "name: k\ntypedConfig:\n  '@type': type.googleapis.com/envoy.extensions.filters.http.kill_request.v3.KillRequest\n  foo: 1\n", want: `unknown field "foo"`},
		{name: "unknown type", target: meshproxypatch.TargetNetworkFilter, value: "typedConfig: {'@type': type.googleapis.com/a.b.C}", want: `unable to resolve "type.googleapis.com/a.b.C": "not found"`},
		{name: "target", target: "secret", want: `no Envoy resource is called "secret"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			object, err := meshproxypatch.ValueJSON(c.value)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			if err := native.Check(c.target, object, c.whole); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("Check(%q) = %q, want %q", object, got, c.want)
			}
		})
	}
}

// FuzzCheck looks for values that break the parsers.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{"", "a", "name: a", "connectTimeout: 3s", "typedConfig: {'@type': type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo}", "a: &a [*a]", "\x00"} {
		f.Add(s, true)
	}
	f.Fuzz(func(_ *testing.T, value string, whole bool) {
		object, err := meshproxypatch.ValueJSON(value)
		if err != nil {
			return
		}
		for _, target := range []string{meshproxypatch.TargetCluster, meshproxypatch.TargetListener, meshproxypatch.TargetNetworkFilter, meshproxypatch.TargetHTTPFilter, meshproxypatch.TargetVirtualHost} {
			_ = native.Check(target, object, whole)
		}
	})
}
