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
	const drainTime = 200 * time.Millisecond
	r := startProcess(t, Config{
		Binary: binary, BootstrapPath: filepath.Join(dir, "bootstrap.yaml"), Admin: admin, Concurrency: 1, LogLevel: "warning", DrainTime: drainTime,
		Bootstrap: fmt.Appendf(nil, "node: {id: test, cluster: test}\nadmin: {address: {pipe: {path: %q, mode: 384}}}\n", admin),
	}, nil)
	r.ready(t)
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
