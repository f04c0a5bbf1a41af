package api_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/resource"
)

// everything is the content of a store, by key.
func everything(s store.Store) map[string]uint64 {
	all, w := s.Watch()
	w.Close()
	out := map[string]uint64{}
	for _, r := range all {
		out[r.Key.String()] = r.Version
	}
	return out
}

// TestBadInput: what is wrong is answered in the shape of all errors, and changes nothing.
func TestBadInput(t *testing.T) {
	g := start(t)
	before := everything(g.store)
	const path = "/meshes/default/meshtimeouts/x"
	deep := func(n int) string {
		return strings.Replace(timeout, `"spec"`, `"x":`+strings.Repeat(`[`, n)+strings.Repeat(`]`, n)+`,"spec"`, 1)
	}
	for _, test := range []struct {
		name, method, path, body string
		header                   []string
		status                   int
		want                     string
	}{
		{"over 1 MiB", "PUT", path, `{"a":"` + strings.Repeat("x", 1<<20) + `"}`, nil, 413, "larger than 1048576 bytes"},
		{"deep", "PUT", path, deep(100), nil, 400, "nested deeper than 100 levels"},
		{"deeper than encoding/json", "PUT", path, deep(20000), nil, 400, "exceeded max depth"},
		{"never closed", "PUT", path, strings.Repeat(`{"a":`, 50000), nil, 400, "Bad Request"},
		{"key twice", "PUT", path, strings.Replace(timeout, `"name":"x"`, `"name":"y","name":"x"`, 1), nil, 400, `is given twice`},
		{"key twice below", "PUT", path, strings.Replace(timeout, `"5s"`, `"5s","connectionTimeout":"6s"`, 1), nil, 400, `is given twice`},
		{"key twice by escape", "PUT", path, strings.Replace(timeout, `"name":"x"`, `"name":"y","na\u006de":"x"`, 1), nil, 400, `is given twice`},
		{"not UTF-8", "PUT", path, strings.Replace(timeout, `"5s"`, "\"5s\xff\"", 1), nil, 400, "not UTF-8"},
		{"form", "PUT", path, timeout, []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "application/json"},
		{"text, which pages may send", "PUT", path, timeout, []string{"Content-Type", "text/plain"}, 415, "application/json"},
		{"yaml", "PUT", path, timeout, []string{"Content-Type", "application/yaml"}, 415, "application/json"},
		{"no type", "PUT", path, timeout, []string{"Content-Type", ";"}, 415, "application/json"},
		{"token by form", "POST", "/tokens/user", `{"name":"a","validFor":"1h"}`, []string{"Content-Type", "text/plain"}, 415, "application/json"},
		{"token with a key twice", "POST", "/tokens/user", `{"name":"a","name":"b","validFor":"1h"}`, nil, 400, "is given twice"},
		{"huge token request", "POST", "/tokens/user", `{"name":"` + strings.Repeat("x", 1<<20) + `"}`, nil, 413, "larger than"},
		{"huge query", "GET", "/meshes?name=" + strings.Repeat("x", 9000), "", nil, 414, "query is longer"},
		{"bad query", "GET", "/meshes?name=%zz", "", nil, 400, "malformed"},
		{"query with semicolons", "GET", "/meshes?a=b;c=d", "", nil, 400, "malformed"},
		{"huge offset", "GET", "/meshes?offset=99999999999999999999", "", nil, 400, "Invalid offset"},
		{"negative offset", "GET", "/meshes?offset=-1", "", nil, 400, "Invalid offset"},
		{"no size", "GET", "/meshes?size=0", "", nil, 400, "Invalid page size"},
		{"traversal", "PUT", "/meshes/..%2fglobal-secrets", `{"type":"Mesh","name":"../global-secrets"}`, nil, 400, "path must not"},
		{"traversal by dots", "DELETE", "/meshes/%2e%2e/default", "", nil, 400, "path must not"},
		{"NUL", "GET", "/meshes/a%00b", "", nil, 400, "path must not"},
		{"newline", "PUT", "/meshes/a%0ab", `{"type":"Mesh","name":"a\nb"}`, nil, 400, "path must not"},
		{"path that is not UTF-8", "GET", "/meshes/%ff", "", nil, 400, "path must not"},
		{"long name", "PUT", "/meshes/" + strings.Repeat("a", 300), `{"type":"Mesh","name":"` + strings.Repeat("a", 300) + `"}`, nil, 400, "less or equal 253"},
		{"unicode name", "PUT", "/meshes/%C3%A9", `{"type":"Mesh","name":"é"}`, nil, 400, "invalid characters"},
		{"markup as a name", "PUT", "/meshes/%3Cimg%3E", `{"type":"Mesh","name":"<img>"}`, nil, 400, "invalid characters"},
		{"markup as a label", "PUT", path, strings.Replace(timeout, `"spec"`, `"labels":{"a":"<img onerror=x>"},"spec"`, 1), nil, 400, "valid label"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := g.do(test.method, test.path, test.body, test.header...)
			if a.status != test.status || !strings.Contains(a.body, test.want) {
				t.Fatalf("got %d %.300s, want %d %q", a.status, a.body, test.status, test.want)
			}
			body, ok := plain(a.body).(map[string]any)
			if !ok || body["type"] != "/std-errors" || body["detail"] == "" || body["detail"] != body["details"] || a.header.Get("Content-Type") != "application/json" {
				t.Errorf("not the shape of errors: %s %.300s", a.header.Get("Content-Type"), a.body)
			}
			if len(a.body) > 2000 {
				t.Errorf("the answer has %d bytes", len(a.body))
			}
		})
	}
	if diff := cmp.Diff(before, everything(g.store)); diff != "" {
		t.Errorf("the store has changed:\n%s", diff)
	}
	for _, media := range []string{"application/json", "application/json; charset=utf-8", "application/merge-patch+json"} {
		if a := g.do("PUT", path, timeout, "Content-Type", media); a.status != 201 && a.status != 200 {
			t.Errorf("%s: got %d %s", media, a.status, a.body)
		}
	}
	if a := g.do("PUT", path, deep(99)); a.status != 200 {
		t.Errorf("nested as deep as may be: got %d %s", a.status, a.body)
	}
	if _, err := g.store.Get(resource.Key{Kind: "MeshTimeout", Mesh: "default", Name: "x"}); err != nil {
		t.Error(err)
	}
}
