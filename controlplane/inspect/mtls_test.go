package inspect

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/mtlsreports"
	"github.com/kuma-dp/kuma-dp/internal/mtlsreport"
	"github.com/kuma-dp/kuma-dp/resource"
)

// rolloutMesh has an inbound in each state; policy permissive opens those of the services quiet, busy, new and silent.
const rolloutMesh = `
type: Mesh
name: m
mtls: {enabledBackend: ca, backends: [{name: ca, type: builtin}]}
---
type: Mesh
name: off
---
type: Mesh
name: twins
---
type: MeshTLS
mesh: m
name: permissive
spec:
  targetRef: {kind: MeshSubset, tags: {open: "yes"}}
  from: [{targetRef: {kind: Mesh}, default: {mode: Permissive}}]
---
type: Dataplane
mesh: off
name: plain
networking: {address: 10.0.1.1, inbound: [{port: 80, tags: {kuma.io/service: plain}}]}
`

var rolloutServices = []string{"strict", "quiet", "busy", "new", "silent", "away"}

// rolloutRig has reports of agents whose clock is two hours ahead.
func rolloutRig(t *testing.T) *rig {
	t.Helper()
	input := rolloutMesh
	for i, name := range rolloutServices {
		open := "yes"
		if name == "strict" {
			open = "no"
		}
		input += fmt.Sprintf("---\ntype: Dataplane\nmesh: m\nname: %s-1\nlabels: {k8s.kuma.io/namespace: ns}\nnetworking: {address: 10.0.0.%d, inbound: [{port: 80, tags: {kuma.io/service: %s, open: %q, kuma.io/protocol: http}}, {port: 49151, tags: {kuma.io/service: %s}}]}\n", name, i+1, name, open, name)
	}
	for i := range 5 { // on one host
		input += fmt.Sprintf("---\ntype: Dataplane\nmesh: twins\nname: twin-%d\nnetworking: {address: 10.0.1.9, inbound: [{port: %d, address: 10.0.1.9, tags: {kuma.io/service: t}}]}\n", i, 80+i)
	}
	g := start(t, []byte(input))
	g.proxies.online = map[string]bool{"strict-1": true, "quiet-1": true, "busy-1": true, "new-1": true, "silent-1": true}
	ours := time.Now()
	theirs := ours.Add(2 * time.Hour)
	tell := func(i int, mode mtlsreport.Mode, watched time.Duration, peers ...mtlsreport.Peer) {
		for n := range peers {
			peers[n].FirstSeen, peers[n].LastSeen = theirs.Add(-30*time.Minute), theirs.Add(-10*time.Minute)
		}
		g.reports[rolloutServices[i]+"-1"] = &mtlsreports.Received{At: ours, Report: &mtlsreport.Report{
			At: theirs, Since: theirs.Add(-watched),
			Inbounds: []mtlsreport.Inbound{{
				Address: netip.MustParseAddrPort(fmt.Sprintf("10.0.0.%d:80", i+1)), Mode: mode, Since: theirs.Add(-watched), MTLS: mtlsreport.Count{Connections: 5}, Peers: peers,
			}},
		}}
	}
	from := func(address string, kind mtlsreport.Kind) mtlsreport.Peer {
		return mtlsreport.Peer{Address: netip.MustParseAddr(address), Kind: kind, Count: mtlsreport.Count{Connections: 2, Requests: 3}}
	}
	tell(0, mtlsreport.Strict, time.Hour, from("10.0.0.99", mtlsreport.RefusedPlaintext))
	tell(1, mtlsreport.Permissive, 90*time.Minute)
	tell(2, mtlsreport.Permissive, 90*time.Minute, from("10.0.0.4", mtlsreport.Plaintext), from("192.0.2.1", mtlsreport.ForeignTLS), from("127.0.0.1", mtlsreport.Plaintext))
	tell(3, mtlsreport.Permissive, time.Minute)
	tell(5, mtlsreport.Permissive, 90*time.Minute)
	return g
}

func (g *rig) rollout(query string) mtlsBody {
	g.t.Helper()
	status, _, text := g.get("/meshes/m/_mtls" + query)
	var body mtlsBody
	if err := json.Unmarshal([]byte(text), &body); err != nil || status != http.StatusOK {
		g.t.Fatalf("%d %s %v", status, text, err)
	}
	return body
}

func states(b mtlsBody) string {
	var out []string
	for _, in := range b.Inbounds {
		out = append(out, fmt.Sprintf("%s:%d %s", in.Service, in.Port, in.State))
	}
	return strings.Join(out, ", ")
}

func TestRollout(t *testing.T) {
	g := rolloutRig(t)
	all := g.rollout("")
	const want = "busy:80 would-break, away:80 unknown, silent:80 unknown, new:80 observing, quiet:80 ready, strict:80 enforced"
	if got := states(all); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if all.States[mtlsreport.StateUnknown] != 2 || all.Services["busy"] != mtlsreport.StateWouldBreak || all.Quiet != "1h0m0s" {
		t.Errorf("states %v, services %v, quiet %s", all.States, all.Services, all.Quiet)
	}
	busy := all.Inbounds[0]
	if busy.Dataplane != "busy-1" || busy.Address != "10.0.0.3" || busy.Mode != mtlsreport.Permissive || busy.MTLS.Connections != 5 || busy.Why != "3 peers came without an identity in the last 1h" {
		t.Errorf("busy: %+v", busy)
	}
	if since := time.Since(busy.Peers[0].LastSeen); since < 10*time.Minute || since > 11*time.Minute {
		t.Errorf("by our clock the last one came %s ago", since)
	}
	who := func(i int) string {
		p := busy.Peers[i]
		return fmt.Sprint(p.Address, " ", p.Dataplane, " ", p.Service, " ", p.Namespace)
	}
	if who(0) != "10.0.0.4 new-1 new ns" || who(1) != "192.0.2.1   " || who(2) != "127.0.0.1   " {
		t.Errorf("peers are %q, %q, %q", who(0), who(1), who(2))
	}
	one := (&Inspector{cfg: Config{Store: g.store}}).peers("twins")[netip.MustParseAddr("10.0.1.9")]
	if one.Dataplane != "twin-0 or twin-1 or twin-2 or twin-3" || one.Service != "t" {
		t.Errorf("on one host: %+v", one)
	}
	for _, tt := range []struct{ query, want string }{
		{"?service=quiet", "quiet:80 ready"},
		{"?service=quiet&quiet=2h", "quiet:80 observing"},
		{"?service=busy&quiet=5m", "busy:80 ready"},
		{"?service=nobody", ""},
	} {
		if got := states(g.rollout(tt.query)); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.query, got, tt.want)
		}
	}
	if status, _, text := g.get("/meshes/off/_mtls"); status != http.StatusOK || !strings.Contains(text, `"state": "off"`) {
		t.Errorf("without mTLS: %d %s", status, text)
	}
	for path, want := range map[string]int{"/meshes/m/_mtls?quiet=soon": 400, "/meshes/m/_mtls?quiet=-1h": 400, "/meshes/nowhere/_mtls": 404} {
		if status, _, text := g.get(path); status != want {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

// change changes something and returns status and the lines of the answer that are about inbounds.
func (g *rig) change(method, path, body string) (int, []string) {
	g.t.Helper()
	status, text := g.send(method, path, body)
	var answer struct {
		Warnings  []string
		Resources []struct{ Warnings []string }
		Invalid   []struct{ Reason string } `json:"invalid_parameters"`
	}
	if len(text) > 0 {
		if err := json.Unmarshal([]byte(text), &answer); err != nil {
			g.t.Fatalf("%s: %v", text, err)
		}
	}
	lines := answer.Warnings
	for _, r := range answer.Resources {
		lines = append(lines, r.Warnings...)
	}
	for _, p := range answer.Invalid {
		lines = append(lines, p.Reason)
	}
	return status, lines
}

const strictPolicy = `{"type":"MeshTLS","mesh":"m","name":"permissive","spec":{"targetRef":{"kind":"Mesh"},"from":[{"targetRef":{"kind":"Mesh"},"default":{"mode":"Strict"}}]}}`

// TestWhoBreaks: a change that makes inbounds strict names who is shut out, and with requireReady it is not made.
func TestWhoBreaks(t *testing.T) {
	const breaks = "port 80 of dataplane busy-1 (service busy): 3 peers came without an identity in the last 1h: 10.0.0.4 (dataplane new-1, plaintext), 192.0.2.1 (foreign-tls), 127.0.0.1 (its own host, plaintext)"
	unready := []string{
		breaks,
		"port 80 of dataplane away-1 (service away): its proxy is not connected: what has come since the last report nobody knows",
		"port 80 of dataplane new-1 (service new): nobody has come without an identity since 60s ago, and 1h are wanted",
		"port 80 of dataplane silent-1 (service silent): its agent does not count connections: it is Kuma's, or an older one",
	}
	const path = "/meshes/m/meshtlses/permissive"
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		want                     []string
	}{
		{"put", "PUT", path, strictPolicy, 200, []string{breaks}},
		{"put, must be ready", "PUT", path + "?requireReady=1h", strictPolicy, 409, unready},
		{"put, true is an hour", "PUT", path + "?requireReady=true", strictPolicy, 409, unready},
		{"put, no time", "PUT", path + "?requireReady=soon", strictPolicy, 400, []string{`"soon" is no time such as 30m or 24h`}},
		{"delete", "DELETE", path, "", 200, []string{breaks}},
		{"delete, must be ready", "DELETE", path + "?requireReady", "", 409, unready},
		{"preview", "POST", "/_preview", strictPolicy, 200, []string{breaks}},
		{"preview of a delete", "POST", "/_preview?delete=true", strictPolicy, 200, []string{breaks}},
		{"nothing becomes strict", "PUT", path, strings.Replace(strictPolicy, "Strict", "Permissive", 1), 200, nil},
		{"another kind", "PUT", "/meshes/m/meshtimeouts/x?requireReady", `{"type":"MeshTimeout","mesh":"m","name":"x","spec":{"to":[{"targetRef":{"kind":"Mesh"},"default":{"connectionTimeout":"2s"}}]}}`, 201, nil},
		{
			"only those who are ready", "PUT", "/meshes/m/meshtlses/zz?requireReady",
			`{"type":"MeshTLS","mesh":"m","name":"zz","spec":{"targetRef":{"kind":"MeshSubset","tags":{"kuma.io/service":"quiet"}},"from":[{"targetRef":{"kind":"Mesh"},"default":{"mode":"Strict"}}]}}`, 201, nil,
		},
		{"a mesh turns mTLS on", "PUT", "/meshes/off?requireReady", `{"type":"Mesh","name":"off","mtls":{"enabledBackend":"ca","backends":[{"name":"ca","type":"builtin"}]}}`, 409, []string{
			"port 80 of dataplane plain (service plain): mTLS of the mesh is off",
		}},
		{"a mesh that is as it was", "PUT", "/meshes/m?requireReady", `{"type":"Mesh","name":"m","mtls":{"enabledBackend":"ca","backends":[{"name":"ca","type":"builtin"}]}}`, 200, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := rolloutRig(t)
			before, err := g.store.Get(resource.Key{Kind: "MeshTLS", Mesh: "m", Name: "permissive"})
			if err != nil {
				t.Fatal(err)
			}
			status, lines := g.change(tt.method, tt.path, tt.body)
			if status != tt.status || !slices.Equal(lines, tt.want) {
				t.Errorf("got %d %q, want %d %q", status, lines, tt.status, tt.want)
			}
			after, err := g.store.Get(before.Key)
			if tt.status >= 400 && (err != nil || after.Version != before.Version) {
				t.Errorf("what was refused has been done: %v", err)
			}
		})
	}
}

// BenchmarkRollout asks for the report of a thousand proxies, and whom a change of all of them would shut out.
func BenchmarkRollout(b *testing.B) {
	const n = 1000
	var input strings.Builder
	input.WriteString("type: Mesh\nname: m\nmtls: {enabledBackend: ca, backends: [{name: ca, type: builtin, mode: PERMISSIVE}]}\n")
	for i := range n {
		fmt.Fprintf(&input, "---\ntype: Dataplane\nmesh: m\nname: dp-%d\nnetworking: {address: 10.1.%d.%d, inbound: [{port: 80, tags: {kuma.io/service: s-%d}}]}\n", i, i/250, i%250+1, i%100)
	}
	g := start(b, []byte(input.String()))
	now := time.Now()
	g.proxies.online = map[string]bool{}
	for i := range n {
		name := fmt.Sprintf("dp-%d", i)
		g.proxies.online[name] = true
		g.reports[name] = &mtlsreports.Received{At: now, Report: &mtlsreport.Report{At: now, Since: now.Add(-2 * time.Hour), Inbounds: []mtlsreport.Inbound{{
			Address: netip.MustParseAddrPort(fmt.Sprintf("10.1.%d.%d:80", i/250, i%250+1)), Mode: mtlsreport.Permissive, Since: now.Add(-2 * time.Hour),
			Peers: []mtlsreport.Peer{{Address: netip.MustParseAddr("10.1.0.1"), Kind: mtlsreport.Plaintext, LastSeen: now}},
		}}}}
	}
	b.Run("report", func(b *testing.B) {
		for b.Loop() {
			if status, _, text := g.get("/meshes/m/_mtls"); status != http.StatusOK {
				b.Fatal(text)
			}
		}
	})
	b.Run("change", func(b *testing.B) {
		body := strings.Replace(strictPolicy, "permissive", "strict", 1)
		for b.Loop() {
			if status, lines := g.change("PUT", "/meshes/m/meshtlses/strict?requireReady", body); status != http.StatusConflict || len(lines) < 20 {
				b.Fatal(status, lines)
			}
		}
	})
}
