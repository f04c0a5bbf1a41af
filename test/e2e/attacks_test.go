//go:build linux

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/scene"
	"github.com/kuma-dp/kuma-dp/test/scene/scenetest"
)

// attacked has an inbound of each kind, and one whose workload listens on another port than Envoy.
const attacked = `type: Dataplane
mesh: default
name: {{ name }}
networking:
  address: {{ address }}
  inbound:
  - port: 8080
    tags: {kuma.io/service: {{ service }}, kuma.io/protocol: http}
  - port: 9090
    tags: {kuma.io/service: {{ service }}-tcp, kuma.io/protocol: tcp}
  - port: 8181
    servicePort: 8282
    tags: {kuma.io/service: {{ service }}-moved, kuma.io/protocol: http}
  transparentProxying:
    redirectPortInbound: 15006
    redirectPortOutbound: 15001
`

// Ports of the attacked workload beside scene.AppPort: those of inbounds, then where a workload listens behind one.
const (
	tcpPort   = 9090
	movedPort = 8181
	innerPort = 8282
)

// drainTime of attacked workloads: how long connections of a chain that has changed may go on.
const drainTime = "KUMA_DATAPLANE_DRAIN_TIME=2s"

// allowWeb lets web, and nobody else, call anything.
const allowWeb = `type: MeshTrafficPermission
mesh: default
name: allow-web
spec:
  targetRef: {kind: Mesh}
  from:
  - targetRef: {kind: MeshSubset, tags: {kuma.io/service: web}}
    default: {action: Allow}
`

// identity of web, as the control plane names it.
var webNames = []string{"spiffe://default/web", "kuma://kuma.io/service/web"}

// battle is a strict mesh with an attacked workload on a host of both families, a client that may call it, and a host that
// is not of the mesh.
type battle struct {
	*scene.Scene
	t           *testing.T
	victim, web *scene.Workload
	seen        *witness
	stranger    *netlab.Host
	ca          *meshCA
}

func newBattle(t *testing.T, prefix string) *battle {
	t.Helper()
	b := &battle{Scene: newScene(t, prefix), t: t}
	apply(t, b.Scene, scene.Mesh+"---\n"+allowWeb)
	b.ca = newMeshCA(t, b.Scene, "default")
	b.victim = add(t, b.Scene, scene.WorkloadConfig{Name: "backend-1", Service: "backend", Dataplane: attacked, IPv6: true, Env: []string{drainTime}})
	b.seen = testify(t, b.victim, []int{scene.AppPort, innerPort}, []int{tcpPort})
	b.web = add(t, b.Scene, scene.WorkloadConfig{Name: "web", Service: "web"})
	var err error
	if b.stranger, err = b.Lab().AddHost("stranger", netlab.IPv6()); err != nil {
		t.Fatal(err)
	}
	awaitStatus(t, b.web, backendURL, http.StatusOK)
	return b
}

// way is how an attacker comes to the host of the workload.
type way struct {
	name string
	dial dial
}

// attack is what it does there.
type attack struct {
	name string
	do   func(net.Conn) ([]byte, error)
}

func plain(name string, payload []byte) attack {
	return attack{name, func(c net.Conn) ([]byte, error) { return speak(c, payload) }}
}

func secure(name string, cfg *tls.Config) attack {
	return attack{name, func(c net.Conn) ([]byte, error) { return overTLS(c, cfg, getRequest) }}
}

// try attacks a port, and returns what is answered. err is that nobody listens there.
func (b *battle) try(c context.Context, w way, a attack, port int) (answer []byte, reached bool, err error) {
	b.t.Helper()
	before := b.seen.count()
	conn, err := w.dial(c, port)
	if err != nil {
		return nil, false, err
	}
	defer conn.Close()
	answer, err = a.do(conn)
	reached = b.seen.count() != before || bytes.Contains(answer, []byte(evidence)) || bytes.Contains(answer, []byte(mark))
	return answer, reached, err
}

// refused tries, and wants nothing of it to come to the workload.
func (b *battle) refused(t *testing.T, w way, a attack, ports ...int) {
	t.Helper()
	for _, port := range ports {
		if answer, reached, err := b.try(ctx(t), w, a, port); reached {
			t.Errorf("%s to port %d comes to the workload: %s", a.name, port, outcome(answer, err))
		}
	}
}

// spoilt are certificates, and ways to offer them, that differ from those of web in one point.
func (b *battle) spoilt(other *meshCA) []attack {
	good := func(change func(*x509.Certificate)) *tls.Config { return offer(b.ca.issue(webNames, change)) }
	old := func(version uint16) *tls.Config {
		cfg := good(nil)
		cfg.MinVersion, cfg.MaxVersion = version, version
		return cfg
	}
	return []attack{
		secure("TLS without a certificate", &tls.Config{}),
		secure("ALPN kuma without a certificate", &tls.Config{NextProtos: []string{"kuma"}}),
		secure("ALPN h2 without a certificate", &tls.Config{NextProtos: []string{"h2", "http/1.1"}}),
		secure("a server name and no certificate", &tls.Config{ServerName: "backend"}),
		secure("self-signed", offer(selfMade(b.t, webNames...))),
		secure("expired", good(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })),
		secure("not valid yet", good(func(c *x509.Certificate) {
			c.NotBefore = time.Now().Add(time.Hour)
			c.NotAfter = c.NotBefore.Add(time.Hour)
		})),
		secure("of another mesh", offer(other.issue([]string{"spiffe://other/web"}, nil))),
		secure("of another mesh, with names of this one", offer(other.issue(webNames, nil))),
		secure("without a URI", offer(b.ca.issue(nil, nil))),
		secure("a DNS name instead of a URI", offer(b.ca.issue(nil, func(c *x509.Certificate) { c.DNSNames = []string{"spiffe://default/web", "web"} }))),
		secure("of another trust domain", offer(b.ca.issue([]string{"spiffe://other/web"}, nil))),
		secure("of a trust domain that begins alike", offer(b.ca.issue([]string{"spiffe://default.evil/web"}, nil))),
		secure("no SPIFFE ID", offer(b.ca.issue([]string{"https://default/web"}, nil))),
		secure("for servers only", good(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })),
		secure("one without permission", offer(b.ca.issue([]string{"spiffe://default/other"}, nil))),
		secure("two without permission", offer(b.ca.issue([]string{"spiffe://default/other", "spiffe://default/third"}, nil))),
		secure("TLS 1.0", old(tls.VersionTLS10)),
		secure("TLS 1.1", old(tls.VersionTLS11)),
	}
}

// TestStrictRefuses attacks a strict workload by every way that leads to its host, while a client of the mesh goes on
// undisturbed (demands.md, assertions 41 and 42). Nothing that an attacker sends comes to the workload. The ways are the
// address of the inbound, an IPv6 address and a second one that no inbound has, and the passthrough of another workload's
// proxy; the ports those of inbounds and the one of a workload behind an inbound.
func TestStrictRefuses(t *testing.T) {
	b := newBattle(t, "kuma-attack")
	second := netip.MustParseAddr("10.99.0.1")
	if err := b.victim.Host.AddAddress(second); err != nil {
		t.Fatal(err)
	}
	apply(t, b.Scene, "type: Mesh\nname: other\nmtls: {enabledBackend: ca-1, backends: [{name: ca-1, type: builtin}]}\n")
	address := b.victim.Host.Addr.String()
	ways := []way{
		{"IPv4", from(b.stranger, address)},
		{"IPv6", from(b.stranger, b.victim.Host.Addr6.String())},
		{"second address", from(b.stranger, second.String())},
		{"from a workload of the mesh", from(b.web.Host, address)},
	}
	attacks := append([]attack{
		plain("plaintext HTTP", getRequest),
		plain("plaintext TCP", []byte(mark+"\n")),
		plain("0x16 and junk", append([]byte{0x16}, mark...)),
		plain("the head of a TLS record and junk", append([]byte{0x16, 3, 1, 0, 200}, bytes.Repeat([]byte(mark), 60)...)),
	}, b.spoilt(newMeshCA(t, b.Scene, "other"))...)
	load := scenetest.StartLoad(t, b.web)
	load.AwaitMore(20)
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			for _, a := range attacks {
				b.refused(t, w, a, scene.AppPort, tcpPort, movedPort, innerPort)
			}
		})
	}
	// Envoy's own ports lead nowhere, and in no circles (assertion 47).
	t.Run("ports of the proxy", func(t *testing.T) {
		before := passed(t, b.victim)
		for _, w := range append(ways, way{"loopback", from(b.victim.Host, "127.0.0.1")}, way{"loopback, IPv6", from(b.victim.Host, "::1")}) {
			b.refused(t, w, plain("plaintext HTTP by "+w.name, getRequest), 15006, 15001)
		}
		if after := passed(t, b.victim); after != before {
			t.Errorf("Envoy has connected to itself: before\n%s, after\n%s", before, after)
		}
	})
	// What is sent by its proxy to the workload's own service is its own, which has no permission.
	t.Run("from the workload itself", func(t *testing.T) {
		if status, _ := get(t, b.victim, backendURL); status != http.StatusForbidden {
			t.Errorf("got %d, want 403", status)
		}
	})
	load.AwaitMore(20)
	load.Unharmed()

	// The tools are good: what is not spoilt comes through, at the inbound's own address.
	t.Run("who is let in", func(t *testing.T) {
		for name, cfg := range map[string]*tls.Config{
			"web":                          offer(b.ca.issue(webNames, nil)),
			"web, as a second of two":      offer(b.ca.issue(append([]string{"spiffe://default/other"}, webNames...), nil)),
			"web, which does not say kuma": {Certificates: []tls.Certificate{b.ca.issue(webNames, nil)}},
			"web, TLS 1.2":                 {Certificates: []tls.Certificate{b.ca.issue(webNames, nil)}, NextProtos: []string{"kuma"}, MaxVersion: tls.VersionTLS12},
		} {
			for _, port := range []int{scene.AppPort, tcpPort, movedPort} {
				if answer, reached, err := b.try(ctx(t), ways[0], secure(name, cfg), port); !reached {
					t.Errorf("%s does not come to port %d: %s", name, port, outcome(answer, err))
				}
			}
		}
		if answer, reached, err := b.try(ctx(t), way{"", from(b.victim.Host, "127.0.0.1")}, plain("", getRequest), scene.AppPort); !reached {
			t.Errorf("the witness does not see what comes to it: %s", outcome(answer, err))
		}
	})
}

// passed are the connections that an Envoy has let pass by.
func passed(t *testing.T, w *scene.Workload) string {
	t.Helper()
	status, body := fetch(t, w.Host, "http://127.0.0.1:9901/stats?filter=bound_passthrough_ipv..upstream_cx_total", nil)
	if status != http.StatusOK || strings.Count(body, "\n") < 4 {
		t.Fatalf("statistics: %d %s", status, body)
	}
	return body
}

// inClear is how a stranger asks without TLS.
func (b *battle) inClear(c context.Context, headers ...string) string {
	b.t.Helper()
	args := []string{"--silent", "--show-error", "--max-time", "20"}
	for _, h := range headers {
		args = append(args, "--header", h)
	}
	out, err := b.stranger.Command(c, 0, "curl", append(args, fmt.Sprintf("http://%s:%d/", b.victim.Host.Addr, scene.AppPort))...).CombinedOutput()
	if err != nil {
		return err.Error() + ": " + string(out)
	}
	return string(out)
}
