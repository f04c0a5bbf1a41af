package main

import (
	"bytes"
	"strings"
	"testing"
)

const refused = `{"type":"type.googleapis.com/envoy.config.listener.v3.Listener","resources":["inbound:10.0.0.1:80"],"reason":"no\u001b[31m:\nnot so",
	"since":"2001-09-09T01:46:40Z","policies":[{"type":"MeshProxyPatch","mesh":"m","name":"bad"},{"type":"MeshProxyPatch","mesh":"m","name":"worse"}]}`

func TestPrintStatus(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"away", `{"connected":false}`, "web-1 is not connected\n"},
		{"fine", `{"connected":true,"refusals":[]}`, "web-1 is connected, its Envoy has taken all of its configuration\n"},
		{"refused", `{"connected":true,"refusals":[` + refused + `],"warnings":[{"message":"MeshTrace: nothing\nat all"}]}`, `web-1 is connected

Envoy refuses Listener inbound:10.0.0.1:80 for AGE and keeps what it had
  no?[31m:
  not so
  because of MeshProxyPatch bad, MeshProxyPatch worse

warning: MeshTrace: nothing; at all
`},
		{"many", `{"connected":true,"refusals":[{"type":"a.Cluster","resources":["a","b","c","d","e","f","g"],"reason":"no","since":"2001-09-09T01:46:40Z"}]}`, `web-1 is connected

Envoy refuses Cluster a, b, c, d, e or 2 more for AGE and keeps what it had
  no
`},
		{"failed", `{"connected":true,"failure":"it cannot be made","suspects":[{"type":"MeshTimeout","name":"t"}]}`, `web-1 is connected

no new configuration can be made, it keeps what it has
  it cannot be made
  because of MeshTimeout t
`},
	} {
		var out bytes.Buffer
		if err := (&app{stdout: &out}).printStatus("web-1", []byte(tt.body)); err != nil {
			t.Fatal(err)
		}
		if got := aged(out.String()); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
	if err := (&app{}).printStatus("", []byte("[]")); err == nil {
		t.Error("another answer is read")
	}
}

func TestPrintPolicyStatus(t *testing.T) {
	for _, tt := range []struct{ name, body, want string }{
		{"fine", `{"total":2,"connected":2,"items":[],"warnings":[],"advice":[]}`, ""},
		{"refused", `{"total":9,"connected":3,"unexamined":4,"items":[{"dataplane":{"name":"web-1"},"refusals":[` + refused + `]},
			{"dataplane":{"name":"web-2"},"refusals":[],"failure":"it cannot be made"}],
			"warnings":[{"message":"MeshTrace: nothing","dataplanes":2,"first":"web-1"}],"advice":["spec.x: no"]}`, `
Refused because of it:

  Envoy of web-1 refuses Listener inbound:10.0.0.1:80 for AGE and keeps what it had
    no?[31m:
    not so
  web-2 has no new configuration and keeps what it has
    it cannot be made

Of 4 more proxies with refusals or warnings it is not known whether they are because of it.

Warnings:

  on 2 of 3 connected proxies, such as web-1: MeshTrace: nothing
  spec.x: no
`},
	} {
		var out bytes.Buffer
		if err := (&app{stdout: &out}).printPolicyStatus([]byte(tt.body)); err != nil {
			t.Fatal(err)
		}
		if got := aged(out.String()); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, got, tt.want)
		}
	}
	if err := (&app{}).printPolicyStatus([]byte("[]")); err == nil {
		t.Error("another answer is read")
	}
}

// aged replaces how long ago something was by AGE.
func aged(text string) string {
	before, after, found := strings.Cut(text, " for ")
	if !found {
		return text
	}
	_, after, _ = strings.Cut(after, " ")
	return before + " for AGE " + after
}
