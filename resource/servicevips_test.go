package resource

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestServiceVIPs(t *testing.T) {
	// As Kuma 2.9 stores it (contract dns.md §2.4).
	const captured = `{"0:x":{"address":"240.0.0.0","outbounds":[{"Port":80,"TagSet":{"kuma.io/service":"x"},"Origin":"service"}]}}`
	got, err := ParseServiceVIPs(&Config{Config: captured})
	if err != nil {
		t.Fatal(err)
	}
	want := ServiceVIPs{ServiceVIPKey("x"): {Address: "240.0.0.0", Outbounds: []ServiceVIPPort{
		{Port: 80, TagSet: map[string]string{TagService: "x"}, Origin: "service"},
	}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	back, err := got.Encode()
	if err != nil || back.Config != captured {
		t.Errorf("encoded: %s, %v", back.Config, err)
	}
	for _, text := range []string{"", "null", "{}"} {
		if v, err := ParseServiceVIPs(&Config{Config: text}); err != nil || v == nil || len(v) != 0 {
			t.Errorf("%q: got %v, %v", text, v, err)
		}
	}
	if v, err := ParseServiceVIPs(&Config{Config: `{"0:x":"240.0.0.0"}`}); err == nil || len(v) != 0 {
		t.Errorf("not addresses: got %v, %v", v, err)
	}
}

func TestServiceVIPsName(t *testing.T) {
	for config, mesh := range map[string]string{
		"kuma-default-dns-vips": "default", "kuma-a-dns-vips-dns-vips": "a-dns-vips", "kuma-dns-vips": "", "kuma--dns-vips": "",
		"kuma-cluster-id": "", "x-kuma-m-dns-vips": "",
	} {
		got, ok := MeshOfServiceVIPs(config)
		if ok != (mesh != "") || ok && (got != mesh || ServiceVIPsName(mesh) != config) {
			t.Errorf("%s: got %q %v, want %q", config, got, ok, mesh)
		}
	}
	if s, ok := ServiceOfVIPKey("0:a"); !ok || s != "a" {
		t.Errorf("got %q %v", s, ok)
	}
	if _, ok := ServiceOfVIPKey("1:a.example.com"); ok {
		t.Error("a host entry is taken for a service")
	}
}

func FuzzServiceVIPs(f *testing.F) {
	f.Add(`{"0:x":{"address":"240.0.0.0","outbounds":[{"Port":80,"TagSet":{"kuma.io/service":"x"},"Origin":"service"}]}}`)
	f.Add(`{"1:h":{"address":"::1","outbounds":null}}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		v, err := ParseServiceVIPs(&Config{Config: text})
		if err != nil {
			return
		}
		c, err := v.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseServiceVIPs(c)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(v, again); diff != "" {
			t.Errorf("read back (-first +second):\n%s", diff)
		}
	})
}
