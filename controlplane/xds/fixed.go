package xds

import (
	"slices"
	"strconv"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	runtimev3 "github.com/envoyproxy/go-control-plane/envoy/service/runtime/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/kuma-dp/kuma-dp/policy/effect"
	"github.com/kuma-dp/kuma-dp/resource"
)

type fixedKey struct {
	direction  corev3.TrafficDirection
	port       uint32
	ipv6, open bool
	// closed are the ports that it does not let through, a portList.
	closed string
}

type fixedPart struct{ listener, cluster *Resource }

// passthrough adds what catches redirected traffic that no other listener wants (contract effects-security.md §1.4).
func (w *work) passthrough(net *resource.Networking) error {
	tp := net.TransparentProxying
	if tp == nil || tp.RedirectPortOutbound == 0 {
		return nil
	}
	open := w.in.Mesh.Spec.Passthrough()
	for _, ipv6 := range []bool{false, true} {
		if ipv6 && tp.IPFamilyMode == "IPv4" {
			continue
		}
		key := fixedKey{direction: corev3.TrafficDirection_OUTBOUND, port: tp.RedirectPortOutbound, ipv6: ipv6, open: open, closed: portList(w.loops(tp.RedirectPortOutbound))}
		switch {
		case !w.passing:
			if err := w.catch(key); err != nil {
				return err
			}
		case !w.earlier.samePassing:
			w.proxy.Passthrough = append(w.proxy.Passthrough, effect.NewPassthrough(key.direction, key.ipv6, key.port, key.open))
		}
	}
	return nil
}

// passthroughInbound is the same for the other direction, once the inbounds are made.
func (w *work) passthroughInbound() error {
	tp := w.in.Dataplane.Spec.Networking.TransparentProxying
	if tp == nil || tp.RedirectPortOutbound == 0 {
		return nil
	}
	closed := w.loops(tp.RedirectPortInbound, tp.RedirectPortOutbound)
	if w.env.Guarded {
		closed = append(closed, closedPorts(w.made.inbounds)...)
	}
	slices.Sort(closed)
	for _, ipv6 := range []bool{false, true} {
		if ipv6 && tp.IPFamilyMode == "IPv4" {
			continue
		}
		key := fixedKey{direction: corev3.TrafficDirection_INBOUND, port: tp.RedirectPortInbound, ipv6: ipv6, open: true, closed: portList(slices.Compact(closed))}
		if err := w.catch(key); err != nil {
			return err
		}
	}
	return nil
}

// closedPorts are the ports that only members of the mesh may reach, in order: those of inbounds that take nothing but mTLS,
// and of the workloads behind them, but for those that another inbound opens to everybody.
func closedPorts(inbounds []inboundPart) []uint32 {
	open := map[uint32]bool{}
	var closed []uint32
	for _, in := range inbounds {
		for _, port := range in.ports {
			if in.strict {
				closed = append(closed, port)
			} else {
				open[port] = true
			}
		}
	}
	closed = slices.DeleteFunc(closed, func(port uint32) bool { return open[port] })
	slices.Sort(closed)
	return slices.Compact(closed)
}

// loops are ports on which Envoy would connect to itself, and that connection to itself, until a circuit breaker opens: a
// client that asks for the redirect port as such has not been redirected.
func (w *work) loops(ports ...uint32) []uint32 {
	if !w.env.Guarded {
		return nil // Kuma 2.9 makes these loops
	}
	return slices.DeleteFunc(ports, func(port uint32) bool { return port == 0 })
}

// portList is a key of ports in their order.
func portList(ports []uint32) string {
	var out []string
	for _, port := range ports {
		out = append(out, strconv.FormatUint(uint64(port), 10))
	}
	return strings.Join(out, ",")
}

// ports reads closed.
func (k *fixedKey) ports() (out []uint32) {
	for text := range strings.SplitSeq(k.closed, ",") {
		if port, err := strconv.ParseUint(text, 10, 16); err == nil {
			out = append(out, uint32(port))
		}
	}
	return out
}

// catch adds a listener that no policy of the proxy changes but those that patch, with its cluster.
func (w *work) catch(key fixedKey) error {
	known, err := w.g.fixed.get(key, func() (*fixedPart, error) {
		p := effect.NewPassthrough(key.direction, key.ipv6, key.port, key.open)
		p.Close(key.ports())
		out, err := &fixedPart{}, error(nil)
		if out.listener, err = w.b.listener(p.Listener); err == nil && p.Cluster != nil {
			out.cluster, err = w.b.cluster(p.Cluster)
		}
		return out, err
	})
	if err != nil {
		return err
	}
	w.b.parts = append(w.b.parts, part{effect.OriginTransparent, TypeListener, known.listener})
	if known.cluster != nil {
		w.b.parts = append(w.b.parts, part{effect.OriginTransparent, TypeCluster, known.cluster})
	}
	return nil
}

// passed finishes what policies wanted to see of it.
func (w *work) passed() error {
	if w.earlier.samePassing {
		w.made.passing = w.earlier.passing
	} else {
		from := len(w.b.parts)
		for _, p := range w.proxy.Passthrough {
			p.Close(w.loops(w.in.Dataplane.Spec.Networking.TransparentProxying.RedirectPortOutbound))
			if err := w.b.addListener(effect.OriginTransparent, p.Listener); err != nil {
				return err
			}
			if p.Cluster != nil {
				if err := w.b.addCluster(effect.OriginTransparent, p.Cluster); err != nil {
					return err
				}
			}
		}
		w.made.passing = slices.Clone(w.b.parts[from:])
		w.b.parts = w.b.parts[:from]
	}
	w.b.parts = append(w.b.parts, w.made.passing...)
	return nil
}

// passthroughClusters are the names of all clusters that go where the client wanted to go.
func passthroughClusters() []string {
	return []string{"inbound:passthrough:ipv4", "inbound:passthrough:ipv6", "outbound:passthrough:ipv4", "outbound:passthrough:ipv6"}
}

func staticCluster(name, address string, port uint32) *effect.Cluster {
	c := effect.NewCluster(name)
	c.ConnectTimeout = durationpb.New(5 * time.Second)
	c.SetStatic(address, port)
	c.SetType(clusterv3.Cluster_STATIC)
	return c
}

// addGatewayRuntime adds the limits of a builtin gateway's listeners, of which there are none: Envoy waits for the answer
// before it listens (contract effects-security.md §1.8).
func addGatewayRuntime(b *builder) error {
	const name = "gateway.listeners"
	return b.addMessage(TypeRuntime, name, &runtimev3.Runtime{Name: name, Layer: &structpb.Struct{}})
}

// addSecrets adds what TLS contexts refer to. Without an identity the proxy has its own.
func addSecrets(b *builder, mesh string, bundle []byte, id *KeyPair) error {
	trust := effect.TrustSecret(mesh)
	err := b.addMessage(TypeSecret, trust, &tlsv3.Secret{Name: trust, Type: &tlsv3.Secret_ValidationContext{
		ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(bundle)},
	}})
	if err != nil || id == nil {
		return err
	}
	name := effect.IdentitySecret(mesh)
	return b.addMessage(TypeSecret, name, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(id.Cert), PrivateKey: inline(id.Key)},
	}})
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}
