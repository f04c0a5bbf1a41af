package resource_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/resource"
)

// FuzzDecode feeds arbitrary bodies. What decodes must survive validation, encoding and the way through a store.
func FuzzDecode(f *testing.F) {
	for _, c := range slices.Concat(captured, capturedZones) {
		f.Add([]byte(c.universal))
	}
	f.Add([]byte(`{"type":"Mesh","name":"m","mtls":{"backends":[{"type":"provided","conf":{"cert":{"inline":"eA=="}}}]}}`))
	f.Add([]byte(`{"type":"HostnameGenerator","name":"h","spec":{"template":"{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}"}}`))
	f.Add([]byte(`{"type":"MeshExternalService","mesh":"m","name":"e","spec":{"tls":{"verification":{"clientKey":{"inline":"eA=="},"subjectAltNames":[{}]}}}}`))
	f.Add([]byte(`{"type":"MeshMultiZoneService","mesh":"m","name":"e","spec":{"selector":{"meshService":null},"ports":[{"name":"a"}]},"status":{"meshServices":[{}]}}`))
	reg := registry()
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := reg.Decode(data)
		if err != nil {
			if r != nil {
				t.Fatalf("both a resource and an error: %v", err)
			}
			return
		}
		resource.Validate(r)
		first, err := reg.Encode(r, resource.FormUniversal)
		if err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
		again, err := reg.Decode(first)
		if err != nil {
			t.Fatalf("decode what was encoded: %v\n%s", err, first)
		}
		second, err := reg.Encode(again, resource.FormUniversal)
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("encodings differ, %v:\n%s\n%s", err, first, second)
		}
		stored, err := reg.EncodeStored(again, resource.Key{})
		if err != nil {
			t.Fatal(err)
		}
		back, _, err := reg.DecodeStored(stored)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(again, back); diff != "" {
			t.Fatalf("stored form (-want +got):\n%s", diff)
		}
	})
}

// FuzzSplitYAML looks for lost bytes and panics.
func FuzzSplitYAML(f *testing.F) {
	for _, s := range []string{"", "a: 1\n---\nb: 2", "--- {a: 1}\n...\n", "---\r\n---", "a: |\n  ---"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		total := 0
		for _, doc := range resource.SplitYAML(data) {
			if len(bytes.TrimSpace(doc)) == 0 {
				t.Errorf("empty document in %q", data)
			}
			total += len(doc)
		}
		if total > len(data) {
			t.Errorf("%d bytes of documents from %d", total, len(data))
		}
	})
}
