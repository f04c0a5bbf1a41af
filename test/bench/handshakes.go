//go:build linux

package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/certs"
	"github.com/kuma-dp/kuma-dp/internal/realenvoy"
)

const (
	handshakeRounds = 5
	handshakeTime   = time.Second
)

// leafPair is a leaf with its key, in PEM.
type leafPair struct{ cert, key []byte }

// leaves are an authority like that of a 2.9 mesh, RSA, and a leaf of each type.
type leaves struct {
	roots  []byte
	byType map[certs.KeyType]leafPair
}

func newLeaves() (*leaves, error) {
	now := time.Now()
	caCert, caKey, err := certs.NewAuthority(certs.AuthorityConfig{Mesh: "default", Now: now})
	if err != nil {
		return nil, err
	}
	ca, err := certs.LoadAuthority(caCert, caKey)
	if err != nil {
		return nil, err
	}
	l := &leaves{caCert, map[certs.KeyType]leafPair{}}
	for _, t := range []certs.KeyType{certs.ECDSAP256, certs.RSA2048} {
		key, err := certs.NewKey(t)
		if err != nil {
			return nil, err
		}
		leaf, err := ca.Sign(certs.SignRequest{
			PublicKey: key.Public(), URIs: []*url.URL{{Scheme: "spiffe", Host: "default", Path: "/web"}}, Lifetime: time.Hour, Now: now,
		})
		if err != nil {
			return nil, err
		}
		text, err := certs.EncodeKey(key)
		if err != nil {
			return nil, err
		}
		l.byType[t] = leafPair{leaf.PEM, text}
	}
	return l, nil
}

// client is the TLS of a client that shows a leaf and verifies the other's chain, whose names are URIs.
func (l *leaves) client(t certs.KeyType) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(l.byType[t].cert, l.byType[t].key)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(l.roots)
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection does it, without a DNS name
		VerifyConnection: func(st tls.ConnectionState) error {
			_, err := st.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots})
			return err
		},
	}, nil
}

// handshakes measures those of mutual TLS at a real Envoy, with leaves of both types in turn.
func handshakes(ctx context.Context) (rows []row, err error) {
	l, err := newLeaves()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "kuma-bench-handshake-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	types := []certs.KeyType{certs.ECDSAP256, certs.RSA2048}
	ports, err := freePorts(ctx, len(types))
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "envoy.json")
	if err := l.writeEnvoy(config, types, ports); err != nil {
		return nil, err
	}
	binary, err := realenvoy.Find()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, binary, "--config-path", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = cmd.Process.Kill() // it may be gone
		_ = cmd.Wait()         // it was killed
	}()
	var all [2][]shaken
	for round := range handshakeRounds + 1 {
		for i, t := range types {
			config, err := l.client(t)
			if err != nil {
				return nil, err
			}
			found, err := shake(ctx, cmd.Process.Pid, ports[i], config)
			if err != nil {
				return nil, err
			}
			if round > 0 { // the first one waits for Envoy to listen
				all[i] = append(all[i], found)
			}
		}
	}
	return []row{{
		"mTLS handshake, client of Go, a real Envoy with one worker (beside it the RSA-2048 leaves of 2.9)", medianShaken(all[1]).String(),
		"not above a 2.9 leaf's", medianShaken(all[0]).String(),
	}}, nil
}

// shaken is what a series of handshakes cost.
type shaken struct {
	rate           float64
	client, server time.Duration // processor time of one
}

func (s shaken) String() string {
	return fmt.Sprintf("%.0f/s one after the other; Envoy %d µs CPU each, client %d µs", s.rate, s.server.Microseconds(), s.client.Microseconds())
}

// medianShaken is the median of each figure.
func medianShaken(list []shaken) shaken {
	rates := slices.SortedFunc(slices.Values(list), func(a, b shaken) int { return cmp.Compare(a.rate, b.rate) })
	clients := slices.SortedFunc(slices.Values(list), func(a, b shaken) int { return cmp.Compare(a.client, b.client) })
	servers := slices.SortedFunc(slices.Values(list), func(a, b shaken) int { return cmp.Compare(a.server, b.server) })
	mid := len(list) / 2
	return shaken{rates[mid].rate, clients[mid].client, servers[mid].server}
}

// shake makes connections to an Envoy, one after the other, on a thread of its own whose processor time counts.
func shake(ctx context.Context, pid int, address string, config *tls.Config) (out shaken, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	server, err := cpuTime(pid)
	if err != nil {
		return out, err
	}
	client, err := threadTime()
	if err != nil {
		return out, err
	}
	n, began := 0, time.Now()
	for ; time.Since(began) < handshakeTime; n++ {
		if err := connect(ctx, address, config); err != nil {
			if n == 0 && errors.Is(err, syscall.ECONNREFUSED) && time.Since(began) < handshakeTime {
				n--
				continue
			}
			return out, err
		}
	}
	took := time.Since(began)
	clientAfter, err := threadTime()
	if err != nil {
		return out, err
	}
	serverAfter, err := cpuTime(pid)
	if err != nil {
		return out, err
	}
	each := time.Duration(max(n, 1))
	return shaken{float64(n) / took.Seconds(), (clientAfter - client) / each, (serverAfter - server) / each}, nil
}

// connect has Envoy send a byte back, which it does for clients that it trusts.
func connect(ctx context.Context, address string, config *tls.Config) error {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	c := tls.Client(raw, config)
	defer func() { _ = c.Close() }() // what counts has been answered
	b := []byte{'x'}
	_, err = c.Write(b)
	if err == nil {
		_, err = c.Read(b)
	}
	if err != nil {
		return fmt.Errorf("handshake with Envoy: %w", err)
	}
	return nil
}

// threadTime is the processor time of this thread.
func threadTime() (time.Duration, error) {
	var u unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_THREAD, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// writeEnvoy writes the configuration of an Envoy that echoes what clients say that it trusts.
func (l *leaves) writeEnvoy(path string, types []certs.KeyType, addresses []string) error {
	type m = map[string]any
	inline := func(text []byte) m { return m{"inline_bytes": text} }
	var listeners []m
	for i, t := range types {
		host, port, err := net.SplitHostPort(addresses[i])
		if err != nil {
			return err
		}
		listeners = append(listeners, m{
			"name":    string(t),
			"address": m{"socket_address": m{"address": host, "port_value": json.Number(port)}},
			"filter_chains": []m{{
				"transport_socket": m{"name": "tls", "typed_config": m{
					"@type":                      "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
					"require_client_certificate": true,
					"common_tls_context": m{
						"tls_certificates":   []m{{"certificate_chain": inline(l.byType[t].cert), "private_key": inline(l.byType[t].key)}},
						"validation_context": m{"trusted_ca": inline(l.roots)},
					},
					// Each handshake is a whole one.
					"disable_stateless_session_resumption": true,
				}},
				"filters": []m{{"name": "echo", "typed_config": m{"@type": "type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo"}}},
			}},
		})
	}
	text, err := json.Marshal(m{"static_resources": m{"listeners": listeners}})
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}
