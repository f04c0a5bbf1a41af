//go:build linux

package e2e

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// betweenAuthorities is scene.Mesh on its way from ca-2 to ca-3.
const betweenAuthorities = `type: Mesh
name: default
meshServices: {mode: Exclusive}
mtls:
  enabledBackend: %s
  rotation: {to: ca-3}
  backends:
  - {name: ca-2, type: builtin, conf: {caCert: {keyType: ECDSA}}}
  - {name: ca-3, type: builtin}
`

// TestRotationOfTheAuthority exchanges the authority of a mesh under load, twice: at a stretch, and with a control plane that
// is killed after each step.
func TestRotationOfTheAuthority(t *testing.T) {
	s := newBareScene(t, "kuma-ca")
	apply(t, s, allowAll+"---\n"+scene.ShortConnections)
	backend := add(t, s, scene.WorkloadConfig{Name: "backend-1", Service: "backend"})
	web := add(t, s, scene.WorkloadConfig{Name: "web-1", Service: "web"})
	awaitStatus(t, web, backendURL, 200)
	awaitAuthority(t, s, "2 of 2 proxies trust all of them and have a certificate of ca-1")
	before := []trust{trustOf(t, backend), trustOf(t, web)}
	load := scenetest.StartLoad(t, web)
	awaitHandshakes(t, web)

	if out := rotate(t, s, "--dry-run", "--key-type", "ECDSA"); !strings.Contains(out, "Next: add the builtin backend ca-2, which all proxies are to trust") {
		t.Errorf("the dry run says:\n%s", out)
	}
	if got := trustOf(t, web); !slices.Equal(got.roots, before[1].roots) {
		t.Error("a dry run changes what proxies trust")
	}
	out := rotate(t, s, "--key-type", "ECDSA")
	for _, line := range []string{"added the builtin backend ca-2\n", "ca-2 signs\n", "ca-2 is the only authority\n", "ca-2 is the authority of mesh default\n"} {
		if !strings.Contains(out, line) {
			t.Errorf("no %q in\n%s", line, out)
		}
	}
	awaitHandshakes(t, web)
	for i, w := range []*scene.Workload{backend, web} {
		got := awaitTrust(t, w, 1)
		if slices.Equal(got.roots, before[i].roots) || got.serial == before[i].serial || got.issuerKey == before[i].issuerKey {
			t.Errorf("%s: before %+v, now %+v", w.Name, before[i], got)
		}
		before[i] = got
	}
	if out, err := s.Kumactl(ctx(t), nil, "get", "secrets"); err != nil || strings.Contains(out, "ca-builtin-cert-ca-1") || !strings.Contains(out, "ca-builtin-cert-ca-2") {
		t.Errorf("secrets are %v\n%s", err, out)
	}

	// Again, by hand and with a control plane that dies as soon as it has a step. The command does the rest.
	for _, enabled := range []string{"ca-2", "ca-3"} {
		apply(t, s, fmt.Sprintf(betweenAuthorities, enabled))
		s.ControlPlane.Kill()
		awaitHandshakes(t, web)
		if err := s.ControlPlane.Start(ctx(t)); err != nil {
			t.Fatal(err)
		}
		awaitAuthority(t, s, "2 of 2 proxies trust all of them and have a certificate of "+enabled)
		for _, w := range []*scene.Workload{backend, web} {
			awaitTrust(t, w, 2)
		}
		awaitHandshakes(t, web)
	}
	rotate(t, s)
	awaitHandshakes(t, web)
	for i, w := range []*scene.Workload{backend, web} {
		if got := awaitTrust(t, w, 1); slices.Equal(got.roots, before[i].roots) || got.serial == before[i].serial || got.issuerKey == before[i].issuerKey {
			t.Errorf("%s after kills: before %+v, now %+v", w.Name, before[i], got)
		}
	}
	sent := load.Sent.Load()
	load.Unharmed()
	t.Logf("%d requests, %d handshakes", sent, handshakes(t, web))

	t.Run("a proxy that is away holds it up", func(t *testing.T) {
		backend.KillAgent()
		awaitAuthority(t, s, "Dataplane backend-1: it is not connected")
		// What it has done and waits for then is told by the next run.
		if text, _ := s.Kumactl(ctx(t), nil, "rotate", "authority", "--timeout", "1s"); !strings.Contains(text, "added the builtin backend ca-4") {
			t.Errorf("it says %s", text)
		}
		if out := rotate(t, s, "--dry-run"); !strings.Contains(out, "Rotation to ca-4") || !strings.Contains(out, "backend-1: it is not connected") {
			t.Errorf("it goes on without the proxy:\n%s", out)
		}
		if out := rotate(t, s, "--force"); !strings.Contains(out, "ca-4 is the authority of mesh default") {
			t.Errorf("it does not go on with --force:\n%s", out)
		}
	})
}

func rotate(t *testing.T, s *scene.Scene, args ...string) string {
	t.Helper()
	out, err := s.Kumactl(ctx(t), nil, append([]string{"rotate", "authority"}, args...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}

// awaitAuthority waits until `kumactl inspect authority` says so.
func awaitAuthority(t *testing.T, s *scene.Scene, text string) {
	t.Helper()
	await(t, text, func(c context.Context) error {
		out, err := s.Kumactl(c, nil, "inspect", "authority")
		if err == nil && !strings.Contains(out, text) {
			err = errors.New(out)
		}
		return err
	})
}

var handshakeCount = regexp.MustCompile(`(?m)^cluster\.default_backend_\S*\.ssl\.handshake: ([0-9]+)$`)

// handshakes counts those of an Envoy with backends.
func handshakes(t *testing.T, w *scene.Workload) int {
	t.Helper()
	_, body, err := w.Curl(ctx(t), "http://127.0.0.1:9901/stats?filter=ssl.handshake")
	if err != nil {
		t.Fatal(err)
	}
	m := handshakeCount.FindStringSubmatch(body)
	if m == nil {
		t.Fatalf("no handshakes in\n%s", body)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// awaitHandshakes waits until an Envoy has proved itself, and seen proof, many times more.
func awaitHandshakes(t *testing.T, w *scene.Workload) {
	t.Helper()
	want := handshakes(t, w) + 20
	await(t, "handshakes", func(context.Context) error {
		if got := handshakes(t, w); got < want { //nolint:contextcheck // it bounds each look by itself
			return fmt.Errorf("got %d, want %d", got, want)
		}
		return nil
	})
}

// trust is what an Envoy has for TLS.
type trust struct {
	roots             []string // the keys of the roots, hashed
	serial, issuerKey string   // of its certificate
}

func awaitTrust(t *testing.T, w *scene.Workload, roots int) (got trust) {
	t.Helper()
	await(t, fmt.Sprintf("%d root at %s", roots, w.Name), func(context.Context) error {
		if got = trustOf(t, w); len(got.roots) != roots { //nolint:contextcheck // it bounds each look by itself
			return fmt.Errorf("got %d", len(got.roots))
		}
		return nil
	})
	return got
}

// trustOf reads the secrets of a workload's Envoy.
func trustOf(t *testing.T, w *scene.Workload) trust {
	t.Helper()
	_, body, err := w.Curl(ctx(t), "http://127.0.0.1:9901/config_dump?resource=dynamic_active_secrets")
	if err != nil {
		t.Fatal(err)
	}
	var dump struct {
		Configs []struct {
			Name   string
			Secret struct {
				TLS struct {
					Chain struct {
						Bytes []byte `json:"inline_bytes"`
					} `json:"certificate_chain"`
				} `json:"tls_certificate"`
				Validation struct {
					CA struct {
						Bytes []byte `json:"inline_bytes"`
					} `json:"trusted_ca"`
				} `json:"validation_context"`
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &dump); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	var out trust
	for _, c := range dump.Configs {
		for _, cert := range certificates(t, c.Secret.Validation.CA.Bytes) {
			out.roots = append(out.roots, fmt.Sprintf("%x", cert.SubjectKeyId))
		}
		for _, cert := range certificates(t, c.Secret.TLS.Chain.Bytes) {
			out.serial, out.issuerKey = cert.SerialNumber.String(), fmt.Sprintf("%x", cert.AuthorityKeyId)
		}
	}
	if len(out.roots) == 0 || out.serial == "" {
		t.Fatalf("no secrets in %s", body)
	}
	return out
}

func certificates(t *testing.T, text []byte) (out []*x509.Certificate) {
	t.Helper()
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}
