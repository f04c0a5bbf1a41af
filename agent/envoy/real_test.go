package envoy

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/realenvoy"
)

func TestRealEnvoy(t *testing.T) {
	binary := realenvoy.ForTest(t)
	b, err := Version(t.Context(), binary)
	if err != nil || !b.Compatible(b.Version) {
		t.Fatalf("version %+v, %v", b, err)
	}
	dir := t.TempDir()
	admin := filepath.Join(dir, "admin.sock")
	clusters := filepath.Join(dir, "clusters.yaml")
	writeClusters := func(resources string) { // by moving, which Envoy watches for
		if err := errors.Join(os.WriteFile(clusters+".new", []byte("resources: "+resources), 0o600), os.Rename(clusters+".new", clusters)); err != nil {
			t.Fatal(err)
		}
	}
	writeClusters("[]")
	const drainTime = 200 * time.Millisecond
	r := startProcess(t, Config{
		Binary: binary, BootstrapPath: filepath.Join(dir, "bootstrap.yaml"), Admin: admin, Concurrency: 1, LogLevel: "warning", DrainTime: drainTime,
		// The endpoints of this cluster never come, so that it never gets warm.
		Bootstrap: fmt.Appendf(nil, `node: {id: test, cluster: test}
admin: {address: {pipe: {path: %q, mode: 384}}}
dynamic_resources: {cds_config: {path_config_source: {path: %q}}}
static_resources: {clusters: [{name: nowhere, connect_timeout: 1s, typed_extension_protocol_options: {envoy.extensions.upstreams.http.v3.HttpProtocolOptions: {
  "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {http2_protocol_options: {}}}}}]}
`, admin, clusters),
	}, nil)
	r.ready(t)
	if n, err := r.WarmingClusters(t.Context()); n != 0 || err != nil {
		t.Errorf("%d clusters are warming, %v; want none", n, err)
	}
	writeClusters(`[{"@type": type.googleapis.com/envoy.config.cluster.v3.Cluster, name: cold, type: EDS, connect_timeout: 1s, eds_cluster_config: {eds_config: {
  resource_api_version: V3, initial_fetch_timeout: 0s, api_config_source: {api_type: GRPC, transport_api_version: V3, grpc_services: {envoy_grpc: {cluster_name: nowhere}}}}}}]`)
	for deadline := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
		n, err := r.WarmingClusters(t.Context())
		if n == 1 && err == nil {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("%d clusters are warming, %v; want the one without endpoints", n, err)
		}
	}
	if err := r.DrainInbound(t.Context()); err != nil {
		t.Error(err)
	}
	r.drained = false // so that the whole way is gone
	drained := make(chan error)
	begin := time.Now()
	go func() { drained <- r.Drain(t.Context()) }()
	for seen := false; !seen; {
		err := r.CheckReady(t.Context())
		seen = errors.Is(err, errNotReady) && strings.Contains(err.Error(), "DRAINING")
		if r.State().over() {
			break // the machine was too slow to see it between
		}
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d < drainTime || d > DefaultStopTimeout {
		t.Errorf("draining took %v", d)
	}
	if err := r.wait(t); err != nil || r.State() != Stopped {
		t.Errorf("run: %v in state %v", err, r.State())
	}
}

func TestRealEnvoyWithAdminPortInUse(t *testing.T) {
	binary := realenvoy.ForTest(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := startProcess(t, Config{
		Binary: binary, BootstrapPath: filepath.Join(t.TempDir(), "bootstrap.yaml"), Admin: l.Addr().String(), Concurrency: 1,
		Bootstrap: fmt.Appendf(nil, "node: {id: test, cluster: test}\nadmin: {address: {socketAddress: {address: 127.0.0.1, portValue: %s}}}\n", port(l)),
	}, nil)
	err = r.wait(t)
	for _, want := range []string{"exit status 1", "port " + port(l) + " (tcp) is in use by envoy.test (pid " + fmt.Sprint(os.Getpid()), "Address already in use"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
