package nametable

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/agent/relay"
	"github.com/kuma-dp/kuma-dp/dns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// captured is the body of contract dns.md §3.2.
const captured = `{"records":[{"name":"backend.svc.mesh.local","ips":["241.0.0.0","::ffff:f100:0"]}],
 "ttl":30,
 "extraLabels":{"kuma_workload":"backend","k8s_kuma_io_namespace":"demo","mesh":"default","kuma_io_zone":"z1"}}`

// envoy answers GET /dns on a unix socket as a real one does, and can be made to fail.
type envoy struct {
	mu     sync.Mutex
	status int
	body   string
	etag   string
	asked  chan string // If-None-Match of each question
}

func (e *envoy) say(status int, body, etag string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.status, e.body, e.etag = status, body, etag
}

func (e *envoy) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	e.mu.Lock()
	status, body, etag := e.status, e.body, e.etag
	e.mu.Unlock()
	match := q.Header.Get("If-None-Match")
	switch {
	case q.Method != http.MethodGet || q.URL.Path != "/dns":
		status, body = http.StatusTeapot, ""
	case etag != "" && match == etag:
		status, body = http.StatusNotModified, ""
	case status == http.StatusOK:
		w.Header().Set("Etag", etag)
	}
	w.WriteHeader(status)
	if body != "" {
		_, _ = w.Write([]byte(body))
	}
	e.asked <- match
}

type given struct {
	records []dns.Record
	ttl     time.Duration
	source  string
}

type rig struct {
	*Tables
	envoy  *envoy
	socket string
	tables chan given
	labels map[string]string
	log    bytes.Buffer
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		envoy: &envoy{asked: make(chan string, 100)}, tables: make(chan given, 100),
		socket: filepath.Join(t.TempDir(), "kuma-mesh-metric-config.sock"),
	}
	tables, err := New(Config{
		Socket: r.socket, Refresh: time.Hour, Log: slog.New(slog.NewTextHandler(&r.log, nil)),
		Set:    func(table *dns.Table, source string) { r.tables <- given{table.Records(), table.TTL(), source} },
		Labels: func(l map[string]string) { r.labels = l },
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Tables = tables
	return r
}

// listen makes the socket be there, as Envoy does once it has the listener.
func (r *rig) listen(t *testing.T) {
	t.Helper()
	l, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: r.envoy, ReadHeaderTimeout: time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close(); <-done })
}

func (r *rig) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (r *rig) next(t *testing.T) given {
	t.Helper()
	select {
	case g := <-r.tables:
		return g
	case <-time.After(20 * time.Second):
		t.Fatal("no table comes")
	}
	return given{}
}

func (r *rig) question(t *testing.T) string {
	t.Helper()
	select {
	case match := <-r.envoy.asked:
		return match
	case <-time.After(20 * time.Second):
		t.Fatal("nobody asks")
	}
	return ""
}

func records(name string, addrs ...string) []dns.Record {
	r := dns.Record{Name: name}
	for _, a := range addrs {
		r.Addrs = append(r.Addrs, netip.MustParseAddr(a))
	}
	return []dns.Record{r}
}

func (r *rig) want(t *testing.T, source string, recs []dns.Record) {
	t.Helper()
	got := r.next(t)
	if diff := cmp.Diff(given{recs, 30 * time.Second, source}, got, cmp.AllowUnexported(given{}), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// 2.9 and our own control plane: the listener alone says it.
func TestListener(t *testing.T) {
	r := newRig(t)
	r.run(t)
	r.Listener([]relay.DNSRecord{{Name: "a.mesh", Addresses: []netip.Addr{netip.MustParseAddr("240.0.0.1")}, TTL: 30 * time.Second}})
	r.want(t, FromListener, records("a.mesh", "240.0.0.1"))
	r.Listener([]relay.DNSRecord{}) // an empty table
	r.want(t, FromListener, nil)
	r.Listener(nil) // the mesh has no names at all
	r.want(t, FromNowhere, nil)
	if what := r.Missing(); what != "" {
		t.Errorf("missing: %s", what)
	}
}

// Version 3: the relay sees the listener before Envoy has its socket.
func TestRoute(t *testing.T) {
	r := newRig(t)
	r.run(t)
	if what := r.Missing(); what != "" {
		t.Errorf("missing before anything is known: %s", what)
	}
	r.Route(true)
	r.Listener(nil)
	if !strings.Contains(r.Missing(), "GET /dns") {
		t.Errorf("missing: %q", r.Missing())
	}
	r.envoy.say(http.StatusOK, captured, "e1")
	r.listen(t)
	r.want(t, FromRoute, records("backend.svc.mesh.local", "241.0.0.0", "::ffff:241.0.0.0"))
	if diff := cmp.Diff(map[string]string{"kuma_workload": "backend", "k8s_kuma_io_namespace": "demo", "mesh": "default", "kuma_io_zone": "z1"}, r.labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if match := r.question(t); match != "" {
		t.Errorf("the first question has If-None-Match %q", match)
	}
	// The listener changes; Envoy answers as before at first.
	r.Route(true)
	if match := r.question(t); match != "e1" {
		t.Errorf("the second question has If-None-Match %q", match)
	}
	r.envoy.say(http.StatusOK, strings.ReplaceAll(captured, "backend.svc", "web.svc"), "e2")
	r.want(t, FromRoute, records("web.svc.mesh.local", "241.0.0.0", "::ffff:241.0.0.0"))
	if what := r.Missing(); what != "" {
		t.Errorf("missing: %s", what)
	}
}

// TestRouteFaults lets Envoy answer badly: the table stays, and the next good answer is taken.
func TestRouteFaults(t *testing.T) {
	for name, bad := range map[string]struct {
		status int
		body   string
		match  string // what the question after it has as If-None-Match
	}{
		"not found":   {http.StatusNotFound, "", ""},
		"server":      {http.StatusServiceUnavailable, "no", "e1"},
		"no JSON":     {http.StatusOK, "<html>", "e1"},
		"cut":         {http.StatusOK, captured[:40], "e1"},
		"other JSON":  {http.StatusOK, `{"error":"x"}`, "e1"},
		"a list":      {http.StatusOK, `[1]`, "e1"},
		"wrong types": {http.StatusOK, `{"records":[{"name":1}]}`, "e1"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.envoy.say(http.StatusOK, captured, "e1")
			r.listen(t)
			r.run(t)
			r.Route(true)
			r.next(t)
			r.question(t)
			r.envoy.say(bad.status, bad.body, "")
			r.Route(true)
			r.question(t)
			if match := r.question(t); match != bad.match {
				t.Errorf("If-None-Match %q, want %q", match, bad.match)
			}
			if n := len(r.tables); n != 0 {
				t.Errorf("%d tables out of a bad answer: %v", n, r.next(t))
			}
			r.envoy.say(http.StatusOK, strings.ReplaceAll(captured, "backend", "web"), "e2")
			r.Route(true)
			r.want(t, FromRoute, records("web.svc.mesh.local", "241.0.0.0", "::ffff:241.0.0.0"))
		})
	}
}

// A control plane that is replaced by an older or a newer one says it in another place.
func TestOtherControlPlane(t *testing.T) {
	r := newRig(t)
	r.envoy.say(http.StatusOK, captured, "e1")
	r.listen(t)
	r.run(t)
	r.Route(true)
	r.next(t)
	r.Listener([]relay.DNSRecord{{Name: "a.mesh", Addresses: []netip.Addr{netip.MustParseAddr("240.0.0.1")}}})
	r.want(t, FromListener, records("a.mesh", "240.0.0.1"))
	r.Route(true) // both: the listener is nearer
	r.Listener(nil)
	for { // what Envoy says is asked for again, though it has not changed
		if g := r.next(t); g.source == FromRoute {
			break
		}
	}
	r.Route(false)
	r.Listener(nil)
	r.want(t, FromNowhere, nil)
}

// The route has nothing to say for too long: the workload goes on without.
func TestGiveUp(t *testing.T) {
	r := newRig(t)
	r.Route(true)
	r.giveUp(patience - 1)
	if len(r.tables) > 0 || r.Missing() == "" {
		t.Error("it gave up too early")
	}
	r.giveUp(patience)
	r.want(t, FromNowhere, nil)
	if r.Missing() != "" || !strings.Contains(r.log.String(), "going on without") {
		t.Errorf("missing %q, log:\n%s", r.Missing(), r.log.String())
	}
}

func TestDocument(t *testing.T) {
	var d document
	err := json.Unmarshal([]byte(`{"records":[
		{"name":"a.x","ips":["::ffff:1.2.3.4","::ffff:f100:0","fd00::1","nonsense","10.0.0.1"]}],"ttl":5.5,"new":{"field":1}}`), &d)
	if err != nil {
		t.Fatal(err)
	}
	table, skipped := d.table()
	want := records("a.x", "1.2.3.4", "10.0.0.1", "::ffff:241.0.0.0", "fd00::1")
	if diff := cmp.Diff(want, table.Records(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(skipped) != 1 || skipped[0] != `a.x: "nonsense"` || table.TTL() != 5*time.Second {
		t.Errorf("skipped %v, TTL %v", skipped, table.TTL())
	}
}

func FuzzDocument(f *testing.F) {
	f.Add([]byte(captured))
	f.Add([]byte(`{"records":[{"name":"..","ips":[""]}],"ttl":1e300}`))
	f.Fuzz(func(_ *testing.T, body []byte) {
		var d document
		if json.Unmarshal(body, &d) == nil {
			d.table()
		}
	})
}
