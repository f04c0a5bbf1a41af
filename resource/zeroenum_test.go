package resource_test

import (
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/resource"
)

// What is written out as the first value of an enumeration is not kept, every other value is.
func TestFirstOfAnEnumerationIsNone(t *testing.T) {
	for _, tt := range []struct{ body, dropped, kept string }{
		{
			`{"type":"Mesh","name":"m","mtls":{"enabledBackend":"a","backends":[{"name":"a","type":"builtin","mode":"MODE"}]}}`,
			"STRICT", "PERMISSIVE",
		},
		{`{"type":"Mesh","name":"m","meshServices":{"mode":"MODE"}}`, "Disabled", "Exclusive"},
		{`{"type":"Dataplane","mesh":"m","name":"d","networking":{"gateway":{"type":"MODE","tags":{"a":"b"}}}}`, "DELEGATED", "BUILTIN"},
		{`{"type":"Dataplane","mesh":"m","name":"d","networking":{"inbound":[{"port":1,"state":"MODE"}]}}`, "Ready", "Ignored"},
		{`{"type":"Dataplane","mesh":"m","name":"d","networking":{"transparentProxying":{"ipFamilyMode":"MODE"}}}`, "UnSpecified", "IPv4"},
	} {
		for _, value := range []string{tt.dropped, tt.kept} {
			r, err := registry().Decode([]byte(strings.Replace(tt.body, "MODE", value, 1)))
			if err != nil {
				t.Fatal(err)
			}
			for _, form := range []resource.Form{resource.FormUniversal, resource.FormKubernetes} {
				out, err := registry().Encode(r, form)
				if err != nil {
					t.Fatal(err)
				}
				if got, want := strings.Contains(string(out), `"`+value+`"`), value == tt.kept; got != want {
					t.Errorf("%s form of %s: kept %t, want %t: %s", form, value, got, want, out)
				}
			}
		}
	}
}
