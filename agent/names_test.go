package agent_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// routeListener answers GET /dns on a unix socket as a control plane of version 3, or of 2.10 to 2.13, has Envoy do it (contract dns.md §3.2).
func routeListener(listener, socket, body string) *anypb.Any {
	sum := sha256.Sum256([]byte(body))
	etag := hex.EncodeToString(sum[:])
	typed := func(name, kind string, config []byte) []byte {
		return join(text(1, name), field(4, text(1, "type.googleapis.com/envoy.extensions.filters."+kind), field(2, config)))
	}
	seen := field(6, text(1, "If-None-Match"), field(13, text(1, etag)))
	notModified := join(text(14, listener+"_dns_not_modified"), field(1, text(2, "/dns"), seen), field(7, number(1, 304)))
	answer := join(text(14, listener+"_dns"), field(1, text(2, "/dns")), field(7, number(1, 200), field(2, text(3, body))),
		field(10, field(1, text(1, "Etag"), text(2, etag))))
	routes := join(text(1, listener), field(11, number(1, uint64(len(body)))),
		field(2, text(1, listener), text(2, "*"), field(3, notModified), field(3, answer)))
	router := typed("envoy.filters.http.router", "http.router.v3.Router", nil)
	manager := typed("envoy.filters.network.http_connection_manager", "network.http_connection_manager.v3.HttpConnectionManager",
		join(text(2, listener), field(4, routes), field(5, router)))
	return &anypb.Any{TypeUrl: listenerType, Value: join(text(1, listener), field(2, field(2, text(1, socket))), field(3, field(3, manager)))}
}

func namesDocument(names ...string) string {
	var records []string
	for i, name := range names {
		records = append(records, fmt.Sprintf(`{"name":%q,"ips":["241.0.0.%d","::ffff:f100:%x"]}`, name, i, i))
	}
	return fmt.Sprintf(`{"records":[%s],"ttl":30,"extraLabels":{"mesh":"default","kuma_zone":"east"}}`, strings.Join(records, ","))
}

// TestNamesFromRoute has a control plane that knows no kuma:dns: the names come through a real Envoy, also when they change.
func TestNamesFromRoute(t *testing.T) {
	for _, listener := range []string{"system_dynamicconfig", "_kuma:dynamicconfig"} {
		t.Run(listener, func(t *testing.T) { namesFromRoute(t, listener) })
	}
}

func namesFromRoute(t *testing.T, listener string) {
	t.Helper()
	c := newControlPlane(t)
	c.redirects = true
	cfg, log := config(t, c)
	cfg.DataplaneRuntime.DynamicConfigRefresh = 3600e9 // what is seen is seen by the event
	socket := cfg.DataplaneRuntime.SocketDir + "/kuma-mesh-metric-config.sock"
	c.world[clusterType] = map[string]*anypb.Any{"app": staticCluster("app", "127.0.0.1:1")}
	c.world[listenerType] = map[string]*anypb.Any{listener: routeListener(listener, socket, namesDocument("a.svc.mesh.local"))}
	r := start(t, cfg)
	r.awaitReady(t, cfg, log)
	resolves := func(name string) string {
		var addrs []string
		deadline := time.Now().Add(patience)
		for time.Now().Before(deadline) {
			var shown struct {
				Records map[string][]string
				Status  struct{ Table struct{ Source string } }
			}
			page(t, cfg.DataplaneRuntime.SocketDir, "dns", &shown)
			if addrs = shown.Records[name]; addrs != nil {
				if shown.Status.Table.Source != "GET /dns" {
					t.Errorf("the source is %q", shown.Status.Table.Source)
				}
				break
			}
			time.Sleep(time.Millisecond) // the page is asked again: it tells nobody of changes
		}
		return strings.Join(addrs, " ")
	}
	if got := resolves("a.svc.mesh.local"); got != "241.0.0.0 ::ffff:241.0.0.0" {
		t.Errorf("got %q\n%s", got, log)
	}
	var trace struct {
		Code    string
		Records []string
	}
	page(t, cfg.DataplaneRuntime.SocketDir, "dns?query=A.svc.mesh.local&type=AAAA", &trace)
	if trace.Code != "NOERROR" || len(trace.Records) != 1 || !strings.Contains(trace.Records[0], "AAAA") {
		t.Errorf("trace: %+v", trace)
	}
	c.push <- &discovery.DeltaDiscoveryResponse{TypeUrl: listenerType, Nonce: "2", Resources: []*discovery.Resource{{
		Name: listener, Version: "2", Resource: routeListener(listener, socket, namesDocument("a.svc.mesh.local", "b.svc.mesh.local")),
	}}}
	if got := resolves("b.svc.mesh.local"); got != "241.0.0.1 ::ffff:241.0.0.1" {
		t.Errorf("after the change: got %q\n%s", got, log)
	}
	text := ownMetrics(t, cfg.DataplaneRuntime.SocketDir+"/kuma-mh-demo-default.sock")
	for _, want := range []string{
		`kuma_dp_dns_entries_total{kuma_zone="east",mesh="default"} 2`,
		`kuma_dp_envoyconfigfetcher_error_count{kuma_zone="east",mesh="default",path="/dns"} 0`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("metrics lack %s:\n%s", want, text)
		}
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatalf("the agent took Envoy's socket away: %v", err)
	}
	conn.Close()
}

// ownMetrics is the part of the page of metrics that is about the agent.
func ownMetrics(t *testing.T, socket string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	answer, err := client.Get("http://localhost/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var own strings.Builder
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "kuma_dp_") {
			own.WriteString(line)
		}
	}
	return own.String()
}
