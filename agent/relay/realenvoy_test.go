package relay_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/agent/relay"
	"github.com/kuma-dp/kuma-dp/internal/realenvoy"
)

func number(n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
}

func message(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// address is core.v3.Address{socket_address}.
func address(addr string) []byte {
	host, port, _ := net.SplitHostPort(addr)
	var p uint64
	_, _ = fmt.Sscan(port, &p)
	return field(1, message(field(2, []byte(host)), number(3, p)))
}

func seconds(n uint64) []byte { return number(1, n) }

// edsCluster is a Cluster whose endpoints come over ADS.
func edsCluster(name string, timeout uint64) *anypb.Any {
	source := message(field(3, nil), number(6, 2)) // ConfigSource{ads, resource_api_version: V3}
	return &anypb.Any{TypeUrl: clusterType, Value: message(
		field(1, []byte(name)), number(2, 3), field(3, field(1, source)), field(4, seconds(timeout)))}
}

// endpoints is a ClusterLoadAssignment with one endpoint.
func endpoints(name, addr string) *anypb.Any {
	endpoint := field(1, field(1, address(addr))) // LbEndpoint.endpoint.address
	return &anypb.Any{TypeUrl: endpointType, Value: message(field(1, []byte(name)), field(2, field(2, endpoint)))}
}

// tcpListener is a Listener that sends connections to a cluster.
func tcpListener(name, addr, cluster string) *anypb.Any {
	proxy := message(field(1, []byte("test")), field(2, []byte(cluster)))
	typed := message(field(1, []byte("type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy")), field(2, proxy))
	filter := message(field(1, []byte("envoy.filters.network.tcp_proxy")), field(4, typed))
	return &anypb.Any{TypeUrl: listenerType, Value: message(field(1, []byte(name)), field(2, address(addr)), field(3, field(3, filter)))}
}

// echo is an application that says its name to whoever connects.
func echo(t *testing.T, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, name)
			_ = c.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

// freePort is an address that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// awaitText connects until the answer is want.
func awaitText(t *testing.T, addr, want string, within time.Duration) {
	t.Helper()
	deadline := time.Now().Add(within)
	got := ""
	for time.Now().Before(deadline) {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			_ = c.SetDeadline(time.Now().Add(time.Second))
			b, _ := io.ReadAll(c)
			_ = c.Close()
			if got = string(b); got == want {
				return
			}
		} else {
			got = err.Error()
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Fatalf("%s answers %q, want %q within %s", addr, got, want, within)
}

// startEnvoy runs a real Envoy against the relay's socket until the test ends.
func startEnvoy(t *testing.T, socketPath string) {
	t.Helper()
	in, err := os.ReadFile("testdata/envoygrpc.yaml")
	if err != nil {
		t.Fatal(err)
	}
	in = bytes.ReplaceAll(in, []byte("portValue: 9901"), []byte("portValue: 0"))
	b, err := relay.RewriteBootstrap(in, socketPath)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "bootstrap.yaml")
	if err := os.WriteFile(path, b.YAML, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, realenvoy.ForTest(t), "--config-path", path, "--disable-hot-restart", "--concurrency", "1", "--log-level", "warning")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		err := cmd.Wait()
		if t.Failed() {
			t.Logf("envoy ended with %v: %s", err, log.String())
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
			t.Errorf("envoy: %v: %s", err, log.String())
		}
	})
}

func TestRealEnvoy(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		one, two := echo(t, "one"), echo(t, "two")
		port := freePort(t)
		p.set(clusterType, map[string]*anypb.Any{"app": edsCluster("app", 1)})
		p.set(endpointType, map[string]*anypb.Any{"app": endpoints("app", one)})
		p.set(listenerType, map[string]*anypb.Any{"in": tcpListener("in", port, "app"), "kuma:dns": dnsListener("a.mesh", "240.0.0.1")})
		r, path := run(t, p, func(c *relay.Config) { c.DNS = func([]relay.DNSRecord) {} })
		startEnvoy(t, path)
		began := time.Now()
		awaitText(t, port, "one", patience)
		t.Logf("first proxied byte %s after Envoy's start", time.Since(began).Round(time.Millisecond))
		// Envoy serves a moment before it acknowledges.
		p.awaitRequest("the listeners accepted", func(q request) bool { return q.typeURL == listenerType && q.nonce != "" && q.nack == "" })
		if missing := r.Missing(); len(missing) != 0 {
			t.Errorf("serving, yet missing %v", missing)
		}

		p.set(endpointType, map[string]*anypb.Any{"app": endpoints("app", two)})
		awaitText(t, port, "two", patience)

		// A changed cluster with unchanged endpoints is warm at once, not after Envoy's 15 s.
		p.set(clusterType, map[string]*anypb.Any{"app": edsCluster("app", 2), "new": edsCluster("new", 1)})
		second := freePort(t)
		p.set(endpointType, map[string]*anypb.Any{"app": endpoints("app", two), "new": endpoints("new", one)})
		p.set(listenerType, map[string]*anypb.Any{"in": tcpListener("in", port, "app"), "more": tcpListener("more", second, "new")})
		awaitText(t, second, "one", patience)
		awaitText(t, port, "two", patience)
		p.awaitRequest("the changed cluster accepted", func(q request) bool { return q.typeURL == clusterType && q.nonce == "4" || q.nonce == "5" })

		// A listener that Envoy refuses: told to the control plane with the reason, and the rest serves on.
		bad := &anypb.Any{TypeUrl: listenerType, Value: field(1, []byte("bad"))}
		p.set(listenerType, map[string]*anypb.Any{"in": tcpListener("in", port, "app"), "bad": bad})
		q := p.awaitRequest("the refusal", func(q request) bool { return q.nack != "" })
		if !strings.Contains(q.nack, "bad") {
			t.Errorf("refusal %q does not say which", q.nack)
		}
		awaitText(t, port, "two", patience)

		// The control plane restarts: traffic goes on, then its news arrive on Envoy's old stream.
		p.stop()
		awaitText(t, port, "two", patience)
		p.start()
		p.set(endpointType, map[string]*anypb.Any{"app": endpoints("app", one)})
		awaitText(t, port, "one", patience)
	})
}
