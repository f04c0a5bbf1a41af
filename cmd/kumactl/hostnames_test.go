package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

func TestHostnameTable(t *testing.T) {
	l := &client.List{Items: []json.RawMessage{
		[]byte(`{"type":"MeshService","name":"a","status":{"vips":[{"ip":"241.0.0.0"},{"ip":"fd00::"}],"addresses":[{"hostname":"a.x","hostnameGeneratorRef":{"coreName":"g"}}],
			"hostnameGenerators":[{"hostnameGeneratorRef":{"coreName":"g"},"conditions":[{"type":"Other","reason":"No"},{"type":"Generated","reason":"Generated","message":""}]},
			{"hostnameGeneratorRef":{"coreName":"h"},"conditions":[{"type":"Generated","reason":"Collision","message":"Hostname collision with MeshService: b"}]}]}}`),
		[]byte(`{"type":"MeshService","name":"old","status":{"addresses":[{"hostname":"of.kubernetes"}]}}`),
		[]byte(`{"type":"MeshMultiZoneService","name":"b"}`),
	}}
	services, err := namedServices(l, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := hostnameTable(services).print(&got); err != nil {
		t.Fatal(err)
	}
	const want = `TYPE                   NAME   VIPS               HOSTNAME   GENERATOR   STATE       MESSAGE
MeshService            a      241.0.0.0,fd00::   a.x        g           Generated   -
MeshService            a      241.0.0.0,fd00::   -          h           Collision   Hostname collision with MeshService: b
MeshService            old    -                  -          -           -           no HostnameGenerator selects it
MeshMultiZoneService   b      -                  -          -           -           no HostnameGenerator selects it
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
	if _, err := namedServices(&client.List{Items: []json.RawMessage{[]byte("[]")}}, nil); err == nil {
		t.Error("another answer is read")
	}
}
