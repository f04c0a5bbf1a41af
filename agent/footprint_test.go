package agent_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kuma-dp/kuma-dp/internal/realenvoy"
)

// BenchmarkFootprint builds kuma-dp as it is shipped, runs it with identity and DNS, and prints its size, its memory and the
// time to its readiness (design.md §4). It fails nothing.
func BenchmarkFootprint(b *testing.B) {
	t := &testing.T{}
	binary := filepath.Join(b.TempDir(), "kuma-dp")
	build := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", binary, "../cmd/kuma-dp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v: %s", err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		b.Fatal(err)
	}
	c := newControlPlane(t)
	defer c.server.Close()
	c.mtls, c.redirects = true, true
	c.world[clusterType] = map[string]*anypb.Any{"app": staticCluster("app", "127.0.0.1:1")}
	c.world[listenerType] = map[string]*anypb.Any{"in": tcpListener("in", freePort(t), "app"), "kuma:dns": dnsListener("a.mesh", "240.0.0.1")}
	var ready time.Duration
	var rss, anon float64
	for b.Loop() {
		dir := b.TempDir()
		files := map[string]string{"token": token(`{"Name":"demo"}`), "ca.pem": c.pem()}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				b.Fatal(err)
			}
		}
		_, port, err := net.SplitHostPort(freePort(t))
		if err != nil {
			b.Fatal(err)
		}
		_, dnsPort, err := net.SplitHostPort(freePort(t))
		if err != nil {
			b.Fatal(err)
		}
		cmd := exec.Command(binary, "run", "--cp-address", c.server.URL, "--mesh=default", "--name=demo", "--concurrency=1", "--drain-time=1ms",
			"--binary-path", realenvoy.ForTest(t), "--dataplane-token-file", dir+"/token", "--ca-cert-file", dir+"/ca.pem", "--dns-proxy-port", dnsPort)
		cmd.Env = append(os.Environ(), "KUMA_READINESS_PORT="+port)
		var log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &log, &log
		began := time.Now()
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		wait := exec.Command(binary, "wait", "--url", "http://127.0.0.1:"+port+"/ready", "--check-frequency=5ms", "--timeout=20s")
		if out, err := wait.CombinedOutput(); err != nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			b.Fatalf("never ready: %v: %s\n%s", err, out, log.String())
		}
		ready += time.Since(began)
		rss += resident(b, cmd.Process.Pid, "VmRSS")
		anon += resident(b, cmd.Process.Pid, "RssAnon")
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			b.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			b.Fatalf("%v: %s", err, log.String())
		}
	}
	b.ReportMetric(float64(info.Size())/1e6, "MB-binary")
	b.ReportMetric(rss/float64(b.N), "MB-RSS")
	b.ReportMetric(anon/float64(b.N), "MB-anonymous")
	b.ReportMetric(float64(ready.Milliseconds())/float64(b.N), "ms-ready")
	b.ReportMetric(0, "ns/op")
}

// resident is a figure of /proc/<pid>/status in MB. Of VmRSS, all but RssAnon is the binary itself, as far as it was used.
func resident(b *testing.B, pid int, what string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb float64
		if _, err := fmt.Sscanf(line, what+": %f kB", &kb); err == nil {
			return kb / 1024
		}
	}
	b.Fatal("no " + what)
	return 0
}
