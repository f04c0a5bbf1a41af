// Package conformance asks a whole control plane what was asked of Kuma 2.9.13, and compares the answers.
package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/controlplane"
	"github.com/kuma-dp/kuma-dp/internal/yamljson"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	// settleTime bounds the wait for a control plane that nobody changes any more. A service without proxies is only
	// ready for TLS after some seconds.
	settleTime = 30 * time.Second
	// steady is how long the answers must stay equal, and poll how often they are asked for meanwhile.
	steady = 80 * time.Millisecond
	poll   = 10 * time.Millisecond
	// patience is how long an answer that differs is asked for again before it counts.
	patience = time.Second
)

// plane is a running control plane with an empty memory store, zone name zone-a.
type plane struct {
	url  string
	http *http.Client
}

func start(t *testing.T) *plane {
	t.Helper()
	c := controlplane.DefaultConfig()
	c.General.WorkDir, c.Store.Type, c.Multizone.Zone.Name = t.TempDir(), controlplane.StoreMemory, "zone-a"
	c.APIServer.HTTP.Interface, c.APIServer.HTTPS.Enabled = "127.0.0.1", false
	c.APIServer.HTTP.Port, c.DPServer.Port, c.Diagnostics.ServerPort = 0, 0, 0
	c.Defaults.SkipMeshCreation = true
	cp, err := controlplane.New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- cp.Run(ctx) }()
	transport := &http.Transport{}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-cp.Ready():
	case err := <-done:
		done <- nil
		t.Fatal(err)
	}
	return &plane{url: "http://" + cp.Addresses().HTTP.String(), http: &http.Client{Transport: transport}}
}

// answer is what the control plane said. Value is the body as JSON, or its text when it is not.
type answer struct {
	status int
	value  any
}

func (p *plane) ask(t *testing.T, method, path string, body []byte) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	a := answer{status: resp.StatusCode}
	if len(raw) > 0 && json.Unmarshal(raw, &a.value) != nil {
		a.value = string(raw)
	}
	return a
}

// document is one resource of an input, as JSON values.
type document map[string]any

func (d document) text(field string) string { s, _ := d[field].(string); return s }

func (d document) key() string { return d.text("type") + "/" + d.text("mesh") + "/" + d.text("name") }

// documents reads a stream of YAML 1.2: a bare y is a string.
func documents(t *testing.T, stream []byte) []document {
	t.Helper()
	var out []document
	for _, doc := range resource.SplitYAML(stream) {
		raw, err := yamljson.ToJSON(doc)
		if err != nil {
			t.Fatal(err)
		}
		var d document
		if err := json.Unmarshal(raw, &d); err != nil {
			t.Fatal(err)
		}
		out = append(out, d)
	}
	return out
}

// put writes a resource where its type says.
func (p *plane) put(t *testing.T, paths map[string]string, d document) answer {
	t.Helper()
	path, ok := paths[d.text("type")]
	if !ok {
		t.Fatalf("%s: GET /_resources does not list its type", d.key())
	}
	if mesh := d.text("mesh"); mesh != "" {
		path = "/meshes/" + mesh + path
	}
	body, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	return p.ask(t, http.MethodPut, path+"/"+d.text("name"), body)
}

// apply writes resources, all of which must be accepted.
func (p *plane) apply(t *testing.T, docs ...document) {
	t.Helper()
	paths := p.paths(t)
	for _, d := range docs {
		if a := p.put(t, paths, d); a.status >= 300 {
			t.Fatalf("PUT %s: status %d: %s", d.key(), a.status, show(a.value))
		}
	}
}

// paths are the paths of all types, from the API's own index.
func (p *plane) paths(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, r := range list(p.ask(t, http.MethodGet, "/_resources", nil).value, "resources") {
		out[at(r, "name").(string)] = "/" + at(r, "path").(string)
	}
	return out
}

// services lists what has virtual IPs, of all meshes.
func (p *plane) services(t *testing.T) []any {
	t.Helper()
	var out []any
	for _, kind := range []string{"meshservices", "meshmultizoneservices", "meshexternalservices"} {
		out = append(out, list(p.ask(t, http.MethodGet, "/"+kind+"?size=1000", nil).value, "items")...)
	}
	return out
}

// unsettled says what is still to come by itself, "" for nothing: virtual IPs, the status of services, services made
// from Dataplanes.
func (p *plane) unsettled(t *testing.T, services []any) string {
	t.Helper()
	known := map[string]bool{}
	for _, s := range services {
		name := fmt.Sprint(at(s, "type"), "/", at(s, "name"))
		known[fmt.Sprint(at(s, "type"), "/", at(s, "mesh"), "/", at(s, "name"))] = true
		if len(vips(s)) == 0 {
			return name + " has no virtual IP"
		}
		local := at(s, "labels", resource.LabelOrigin) != resource.OriginGlobal
		if at(s, "type") == "MeshService" && local && at(s, "status", "tls", "status") == nil {
			return name + " has no status.tls"
		}
	}
	for _, mesh := range list(p.ask(t, http.MethodGet, "/meshes", nil).value, "items") {
		if mode := at(mesh, "meshServices", "mode"); mode == nil || mode == "Disabled" {
			continue
		}
		name := at(mesh, "name").(string)
		for _, dp := range list(p.ask(t, http.MethodGet, "/meshes/"+name+"/dataplanes?size=1000", nil).value, "items") {
			for _, in := range list(at(dp, "networking"), "inbound") {
				tag, _ := at(in, "tags", resource.TagService).(string)
				named := len(tag) <= 63 && tag == strings.ToLower(tag)
				if key := "MeshService/" + name + "/" + tag; named && !known[key] {
					return key + " is not generated"
				}
			}
		}
	}
	return ""
}

// settle waits until nothing is to come and the answers of ask stay equal for some time.
func (p *plane) settle(t *testing.T, ask func() any) {
	t.Helper()
	deadline := time.Now().Add(settleTime)
	var last []any
	var since time.Time
	for {
		services := p.services(t)
		missing := p.unsettled(t, services)
		now := []any{services, ask()}
		if missing != "" || !reflect.DeepEqual(last, now) {
			last, since = now, time.Now()
		}
		if missing == "" && time.Since(since) >= steady {
			return
		}
		if time.Now().After(deadline) {
			if missing == "" {
				missing = "answers keep changing"
			}
			t.Fatalf("not settled after %s: %s", settleTime, missing)
		}
		time.Sleep(poll)
	}
}

// addresses maps virtual IPs to their placeholders, and the placeholder of the control plane to its address.
func (p *plane) addresses(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{here: p.url}
	for _, s := range p.services(t) {
		for _, ip := range vips(s) {
			out[ip] = fmt.Sprintf("VIP(%s/%s)", at(s, "type"), at(s, "name"))
		}
	}
	return out
}

func vips(service any) []string {
	var out []string
	for _, v := range list(at(service, "status"), "vips") {
		out = append(out, fmt.Sprint(at(v, "ip")))
	}
	if ip, ok := at(service, "status", "vip", "ip").(string); ok {
		out = append(out, ip)
	}
	return slices.DeleteFunc(out, func(ip string) bool { return ip == "" })
}

// at follows field names through objects; nil when there is nothing.
func at(v any, fields ...string) any {
	for _, f := range fields {
		m, _ := v.(map[string]any)
		v = m[f]
	}
	return v
}

func list(v any, field string) []any {
	l, _ := at(v, field).([]any)
	return l
}
