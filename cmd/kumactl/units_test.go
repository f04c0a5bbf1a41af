package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

func TestPairs(t *testing.T) {
	for in, want := range map[string][]pair{
		"a=1":         {{"a", "1"}},
		"a=1,2":       {{"a", "1,2"}}, // one "=" is one pair
		"a=1,b=2":     {{"a", "1"}, {"b", "2"}},
		"token=x.y==": {{"token", "x.y=="}},
		`"a=1,2",b=3`: {{"a", "1,2"}, {"b", "3"}},
		"a=":          {{"a", ""}},
	} {
		if got, err := pairs([]string{in}); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v, want %v", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "s3cret", "=s3cret", "a=1,b=2,s3cret", `a=1,"s3cret=`} {
		if _, err := pairs([]string{bad}); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}

func TestTagSets(t *testing.T) {
	got, err := tagSets([]string{"a=1,2,b=3", "a=4"})
	if want := map[string][]string{"a": {"1", "2", "4"}, "b": {"3"}}; err != nil || !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	for _, bad := range []string{"", "a", "a=", "=1", "a=1,", ",a=1"} {
		if _, err := tagSets([]string{bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 119 * time.Minute: "119m", 2 * time.Hour: "2h",
		47 * time.Hour: "47h", 48 * time.Hour: "2d", 729 * 24 * time.Hour: "729d", 800 * 24 * time.Hour: "2y",
	} {
		if got := age(d); got != want {
			t.Errorf("%s: got %s, want %s", d, got, want)
		}
	}
	if got := ago(nil); got != "never" {
		t.Errorf("got %s", got)
	}
}

func TestDataplaneStatus(t *testing.T) {
	for inbound, want := range map[string]string{
		`[{}, {"health": {"ready": true}}]`:                     online,
		`[{"state": "NotReady"}, {"state": "Ready"}]`:           degraded,
		`[{"health": {"ready": false}}]`:                        offline,
		`[{"state": "NotReady"}, {"health": {"ready": false}}]`: offline,
		`[]`: online,
	} {
		var o overview
		body := `{"dataplane": {"networking": {"inbound": ` + inbound + `}}, "dataplaneInsight": {"subscriptions": [{"connectTime": "2026-01-01T00:00:00Z"}]}}`
		if err := json.Unmarshal([]byte(body), &o); err != nil {
			t.Fatal(err)
		}
		if got := o.dataplaneStatus(); got != want {
			t.Errorf("%s: got %s, want %s", inbound, got, want)
		}
	}
}

// TestTableIsSafe: what others wrote neither moves the cursor nor breaks a row.
func TestTableIsSafe(t *testing.T) {
	var out strings.Builder
	tab := table{header: []string{"A", "B"}, rows: [][]string{{"x\x1b[2J", "y\n\u009bz\t."}}}
	if err := tab.print(&out); err != nil {
		t.Fatal(err)
	}
	if want := "A         B\nx?[2J     y??z?.\n"; !strings.HasSuffix(strings.ReplaceAll(out.String(), " ", ""), strings.ReplaceAll(want, " ", "")) {
		t.Errorf("got %q", out.String())
	}
}

func TestFromKubernetesRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"apiVersion: kuma.io/v1alpha1\nkind: Mesh":                                       "object of Kubernetes: metadata.name cannot be empty",
		"apiVersion: v1\nkind: Pod\nmetadata: {name: a}":                                 "no resource of a mesh",
		"apiVersion: v1\nkind: Secret\ntype: Opaque\nmetadata: {name: a}":                "type must be system.kuma.io/secret",
		"apiVersion: kuma.io/v1alpha1\nkind: Mesh\nmetadata: {name: a}\nspec: {name: b}": "spec.name is not a field of the spec",
		"items: [1]": "item 1 of the list",
	} {
		if _, err := parse([]byte(in), nil, "default"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", in, err, want)
		}
	}
}

func TestFromKubernetes(t *testing.T) {
	for in, want := range map[string]string{
		"apiVersion: kuma.io/v1alpha1\nkind: Dataplane\nmesh: m\nmetadata: {name: a, namespace: kuma-system}\nspec: {networking: {address: 1.1.1.1}}": `{"mesh":"m","name":"a","networking":{"address":"1.1.1.1"},"type":"Dataplane"}`,
		"apiVersion: kuma.io/v1alpha1\nkind: MeshTLS\nmetadata: {name: a, labels: {kuma.io/mesh: m}}\nspec: {from: []}":                               `{"mesh":"m","name":"a","spec":{"from":[]},"type":"MeshTLS"}`,
		"apiVersion: v1\nkind: Secret\ntype: system.kuma.io/global-secret\nmetadata: {name: a}\ndata: {value: YQ==}":                                  `{"data":"YQ==","name":"a","type":"GlobalSecret"}`,
	} {
		docs, err := parse([]byte(in), nil, "default")
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if got, _ := json.Marshal(docs[0].body); string(got) != want || len(docs[0].warnings) > 0 {
			t.Errorf("%s: got %s, %v, want %s", in, got, docs[0].warnings, want)
		}
	}
}

func TestSelfSigned(t *testing.T) {
	for _, keyType := range []string{"rsa", "ecdsa"} {
		key, cert, err := selfSigned("server", keyType, []string{"cp.example", "127.0.0.1"}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(pair.Leaf)
		for host, good := range map[string]bool{"cp.example": true, "127.0.0.1": true, "other.example": false} {
			if _, err := pair.Leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots}); (err == nil) != good {
				t.Errorf("%s for %s: %v", keyType, host, err)
			}
		}
		usage := x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if _, err := pair.Leaf.Verify(usage); err == nil {
			t.Error("a server's certificate is good for a client")
		}
	}
}

func TestInputIsBounded(t *testing.T) {
	if _, err := limited(io.LimitReader(zeros{}, maxInput+1), "x"); err == nil || !strings.Contains(err.Error(), "x is larger than") {
		t.Errorf("got %v", err)
	}
	if _, err := limited(io.LimitReader(zeros{}, maxInput), "x"); err != nil {
		t.Errorf("got %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestExported: meshes come first, what belongs to one control plane never.
func TestExported(t *testing.T) {
	kinds := client.Kinds{
		{Name: "Dataplane"},
		{Name: "DataplaneInsight"},
		{Name: "GlobalSecret", Federation: true},
		{Name: "Mesh", Federation: true},
		{Name: "MeshTimeout", Federation: true},
		{Name: "Secret", Federation: true},
		{Name: "Old", ReadOnly: true},
	}
	for _, tt := range []struct {
		profile string
		admin   bool
		want    string
	}{
		{"federation", false, "Mesh GlobalSecret Secret"},
		{"federation-with-policies", false, "Mesh GlobalSecret Secret MeshTimeout"},
		{"all", false, "Mesh Dataplane MeshTimeout"},
		{"all", true, "Mesh GlobalSecret Secret Dataplane MeshTimeout"},
		{"no-dataplanes", false, "Mesh MeshTimeout"},
		{"no-dataplanes", true, "Mesh GlobalSecret Secret MeshTimeout"},
	} {
		var got []string
		for _, k := range exported(kinds, tt.profile, tt.admin) {
			got = append(got, k.Name)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s, %v: got %v, want %s", tt.profile, tt.admin, got, tt.want)
		}
	}
}
