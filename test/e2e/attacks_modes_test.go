//go:build linux

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// modes is a MeshTLS for everybody.
func modes(conf string) string {
	return "type: MeshTLS\nmesh: default\nname: modes\nspec:\n  targetRef: {kind: Mesh}\n  from:\n  - targetRef: {kind: Mesh}\n    default: " + conf + "\n"
}

// awaitClear waits until a stranger is answered in plaintext, or is not.
func (b *battle) awaitClear(want bool) {
	b.t.Helper()
	await(b.t, fmt.Sprintf("plaintext to be answered: %t", want), func(c context.Context) error {
		if got := b.inClear(c); strings.Contains(got, evidence) != want {
			return errors.New(got)
		}
		return nil
	})
}

// TestPermissiveMeansUnauthenticated: a permissive inbound lets plaintext in whatever the permissions say, as somebody without
// an identity, while an identity is still held to them (demands.md, assertions 43 and 45). What claims to be an identity and
// is none is let in by no mode.
func TestPermissiveMeansUnauthenticated(t *testing.T) {
	b := newBattle(t, "kuma-perm")
	apply(t, b.Scene, "type: Mesh\nname: other\nmtls: {enabledBackend: ca-1, backends: [{name: ca-1, type: builtin}]}\n")
	b.awaitClear(false)
	apply(t, b.Scene, modes("{mode: Permissive}"))
	b.awaitClear(true)
	w := way{"IPv4", from(b.stranger, b.victim.Host.Addr.String())}

	t.Run("plaintext has no identity", func(t *testing.T) {
		forged := []string{"X-Forwarded-Client-Cert: By=spiffe://default/backend;URI=spiffe://default/web", "X-Kuma-Tags: &kuma.io/service=web&"}
		for _, got := range []string{b.inClear(ctx(t)), b.inClear(ctx(t), forged...)} {
			if got != evidence+" by [], tags []" {
				t.Errorf("the workload is told %q", got)
			}
		}
	})
	t.Run("a client of the mesh cannot take another identity", func(t *testing.T) {
		_, body, err := b.web.Curl(ctx(t), backendURL, "--header", "X-Forwarded-Client-Cert: URI=spiffe://default/admin", "--header", "X-Kuma-Tags: &kuma.io/service=admin&")
		if err != nil || !strings.Contains(body, "URI=spiffe://default/web") || strings.Contains(body, "admin") {
			t.Errorf("the workload is told %q, %v", body, err)
		}
	})
	t.Run("an identity is held to its permissions", func(t *testing.T) {
		denied := secure("another service", offer(b.ca.issue([]string{"spiffe://default/other"}, nil)))
		b.refused(t, w, denied, scene.AppPort, tcpPort)
		if answer, _, err := b.try(ctx(t), w, denied, scene.AppPort); !strings.Contains(string(answer), "403 Forbidden") {
			t.Errorf("got %s, want 403", outcome(answer, err))
		}
		if answer, reached, err := b.try(ctx(t), w, secure("web", offer(b.ca.issue(webNames, nil))), scene.AppPort); !reached {
			t.Errorf("web is refused: %s", outcome(answer, err))
		}
	})
	t.Run("what is spoilt is refused", func(t *testing.T) {
		for _, a := range b.spoilt(newMeshCA(t, b.Scene, "other")) {
			b.refused(t, w, a, scene.AppPort, tcpPort)
		}
	})
	t.Run("without any permission", func(t *testing.T) {
		remove(t, b.Scene, "meshtrafficpermission", "allow-web")
		awaitStatus(t, b.web, backendURL, http.StatusForbidden)
		b.awaitClear(true)
	})
}

// line is a connection on which a client says something again and again.
type line struct {
	net.Conn
	r *bufio.Reader
}

// echo wants back what it sends.
func (l *line) echo() error {
	if err := l.SetDeadline(time.Now().Add(patienceOfAttack)); err != nil {
		return err
	}
	if _, err := io.WriteString(l, "hello\n"); err != nil {
		return err
	}
	_, err := l.r.ReadString('\n')
	return err
}

// get asks and returns the status.
func (l *line) get() (int, error) {
	if err := l.SetDeadline(time.Now().Add(patienceOfAttack)); err != nil {
		return 0, err
	}
	if _, err := io.WriteString(l, "GET / HTTP/1.1\r\nHost: backend\r\n\r\n"); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(l.r, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, errors.Join(err, resp.Body.Close())
}

// open makes a line, over TLS when there is a configuration.
func (b *battle) open(d dial, port int, cfg *tls.Config) *line {
	b.t.Helper()
	c, err := d(ctx(b.t), port)
	if err != nil {
		b.t.Fatal(err)
	}
	if cfg != nil {
		cfg = cfg.Clone()
		cfg.InsecureSkipVerify = true
		c = tls.Client(c, cfg)
	}
	b.t.Cleanup(func() { _ = c.Close() })
	return &line{c, bufio.NewReader(c)}
}

// TestModeKeepsConnections: going from strict to permissive and back ends no established connection of a client of the mesh,
// neither through its proxy nor one that is held for its own sake.
func TestModeKeepsConnections(t *testing.T) {
	b := newBattle(t, "kuma-keep")
	service := func(name string) dial { return from(b.web.Host, scenetest.Resolve(t, b.web, name+".svc.mesh.local")) }
	direct := from(b.stranger, b.victim.Host.Addr.String())
	cert := offer(b.ca.issue(webNames, nil))
	tcp := map[string]*line{"TCP by the proxy": b.open(service("backend-tcp"), tcpPort, nil), "TCP": b.open(direct, tcpPort, cert)}
	web := map[string]*line{"HTTP by the proxy": b.open(service("backend"), scene.AppPort, nil), "HTTP": b.open(direct, scene.AppPort, cert)}
	alive := func(when string) {
		t.Helper()
		for name, l := range tcp {
			if err := l.echo(); err != nil {
				t.Errorf("%s, %s: %v", when, name, err)
			}
		}
		for name, l := range web {
			if status, err := l.get(); status != http.StatusOK || err != nil {
				t.Errorf("%s, %s: %d, %v", when, name, status, err)
			}
		}
	}
	alive("strict")
	for _, mode := range []string{"Permissive", "Strict", "Permissive"} {
		apply(t, b.Scene, modes("{mode: "+mode+"}"))
		b.awaitClear(mode == "Permissive")
		awaitDrained(t, b.victim)
		alive(mode)
	}
}

// awaitDrained waits until Envoy has let go of all that earlier configurations left, with its connections.
func awaitDrained(t *testing.T, w *scene.Workload) {
	t.Helper()
	await(t, "the drain time", func(context.Context) error {
		_, body := fetch(t, w.Host, "http://127.0.0.1:9901/stats?filter=listener_manager.total_(filter_chains|listeners)_draining", nil)
		if strings.Count(body, "draining: 0\n") != 2 {
			return errors.New(body)
		}
		return nil
	})
}

// TestPermissionIsWithdrawn: without a permission nobody is let in, and taking one away acts on clients that are connected: the
// proxy of a client hears that its connection goes and opens another, and one that does not care is cut off when the drain
// time is over (demands.md, assertion 44).
func TestPermissionIsWithdrawn(t *testing.T) {
	b := newBattle(t, "kuma-gone")
	direct := from(b.stranger, b.victim.Host.Addr.String())
	cert := offer(b.ca.issue(webNames, nil))
	kept := b.open(from(b.web.Host, scenetest.Resolve(t, b.web, "backend.svc.mesh.local")), scene.AppPort, nil)
	stubborn, tcp := b.open(direct, scene.AppPort, cert), b.open(direct, tcpPort, cert)
	for name, l := range map[string]*line{"by the proxy": kept, "past it": stubborn} {
		if status, err := l.get(); status != http.StatusOK || err != nil {
			t.Fatalf("%s: %d, %v", name, status, err)
		}
	}
	if err := tcp.echo(); err != nil {
		t.Fatal(err)
	}
	remove(t, b.Scene, "meshtrafficpermission", "allow-web")
	await(t, "the next requests of a connected client to be denied", func(context.Context) error {
		for range 8 {
			status, err := kept.get()
			if err != nil {
				t.Fatalf("the client's own connection ends: %v", err)
			}
			if status != http.StatusForbidden {
				return fmt.Errorf("got %d", status)
			}
		}
		return nil
	})
	await(t, "a client that stays to be cut off", func(context.Context) error {
		if status, err := stubborn.get(); err == nil {
			return fmt.Errorf("got %d", status)
		}
		return nil
	})
	await(t, "a TCP connection to be cut off", func(context.Context) error {
		if tcp.echo() == nil {
			return errors.New("it is open")
		}
		return nil
	})
	if status, err := b.open(direct, scene.AppPort, cert).get(); status != http.StatusForbidden || err != nil {
		t.Errorf("a new connection: %d, %v", status, err)
	}
	if err := b.open(direct, tcpPort, cert).echo(); err == nil {
		t.Error("a new TCP connection is served")
	}
}

// TestMeshTLSBounds: clients that speak another version of TLS, or other ciphers, than a MeshTLS wants are refused.
func TestMeshTLSBounds(t *testing.T) {
	b := newBattle(t, "kuma-bounds")
	w := way{"IPv4", from(b.stranger, b.victim.Host.Addr.String())}
	client := func(change func(*tls.Config)) attack {
		cfg := offer(b.ca.issue(webNames, nil))
		change(cfg)
		return secure("web", cfg)
	}
	version := func(v uint16) attack { return client(func(c *tls.Config) { c.MinVersion, c.MaxVersion = v, v }) }
	cipher := func(id uint16) attack {
		return client(func(c *tls.Config) { c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{id} })
	}
	const aes128, aes256 = tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
	for _, tt := range []struct {
		name, conf string
		in, out    []attack
	}{
		{"Envoy's own", "{mode: Strict}", []attack{version(tls.VersionTLS12), version(tls.VersionTLS13), cipher(aes128), cipher(aes256)}, nil},
		{"TLS 1.3 at least", "{tlsVersion: {min: TLS13}}", []attack{version(tls.VersionTLS13)}, []attack{version(tls.VersionTLS12)}},
		{"TLS 1.2 at most", "{tlsVersion: {min: TLS12, max: TLS12}}", []attack{version(tls.VersionTLS12)}, []attack{version(tls.VersionTLS13)}},
		{
			"one cipher", "{tlsVersion: {min: TLS12, max: TLS12}, tlsCiphers: [ECDHE-ECDSA-AES256-GCM-SHA384]}",
			[]attack{cipher(aes256)},
			[]attack{cipher(aes128), version(tls.VersionTLS13)},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			apply(t, b.Scene, modes(tt.conf))
			await(t, "the bounds to hold", func(c context.Context) error {
				for _, a := range tt.out {
					if _, reached, _ := b.try(c, w, a, scene.AppPort); reached {
						return errors.New("a client that is not within them is let in")
					}
				}
				for _, a := range tt.in {
					if answer, reached, err := b.try(c, w, a, scene.AppPort); !reached {
						return errors.New("a client within them is refused: " + outcome(answer, err))
					}
				}
				return nil
			})
			awaitStatus(t, b.web, backendURL, http.StatusOK) // the mesh's own clients follow
		})
	}
}
