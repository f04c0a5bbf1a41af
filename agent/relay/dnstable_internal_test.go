package relay

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func FuzzDecodeDNS(f *testing.F) {
	tag := func(n protowire.Number, b ...byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), b)
	}
	text := func(n protowire.Number, s string) []byte { return tag(n, []byte(s)...) }
	domain := append(text(1, "a.mesh"), tag(2, tag(1, text(1, "240.0.0.1")...)...)...)
	filter := append(text(1, dnsFilterType), tag(2, tag(2, tag(1, tag(2, domain...)...)...)...)...)
	f.Add(append(text(1, "kuma:dns"), tag(9, tag(3, filter...)...)...))
	f.Add([]byte{0x4a, 0xff})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		records, err := decodeDNS(b)
		if err != nil && records != nil {
			t.Error("records with an error")
		}
		for _, r := range records {
			if r.Name == "" || r.TTL < 0 || r.TTL > maxTTL {
				t.Errorf("record %+v", r)
			}
		}
		if _, err := resourceName(b); err == nil {
			_ = endpointsOf(b, "x")
		}
		if !bytes.Equal(b, before) {
			t.Error("the input was changed")
		}
	})
}

func TestBlamed(t *testing.T) {
	versions := map[string]string{"a": "1", "bad": "1", "outbound:1.2.3.4:80": "1"}
	for _, tc := range []struct {
		name, detail string
		want         []string
	}{
		{"one of several", "Error adding/updating cluster(s) bad: nope", []string{"bad"}},
		{"letters inside words are no names", "bad_one and a-b", nil},
		{"a later mention counts", "badly bad", []string{"bad"}},
		{"names with punctuation", "Error adding/updating listener(s) outbound:1.2.3.4:80: nope", []string{"outbound:1.2.3.4:80"}},
		{"none", "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := blamed(versions, tc.detail)
			if len(got) != len(tc.want) {
				t.Fatalf("blamed %v, want %v", got, tc.want)
			}
			for _, name := range tc.want {
				if _, ok := got[name]; !ok {
					t.Errorf("blamed %v, want %v", got, tc.want)
				}
			}
		})
	}
}
