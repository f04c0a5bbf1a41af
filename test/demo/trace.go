//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

// path is the way of a request through the client's side, as the parts on it report.
type path struct {
	name, vip, listener, cluster, tls string
	endpoints                         []string
}

const envoyAdmin = "http://127.0.0.1:9901"

// trace follows name from the resolver to the endpoints: the DNS answer, Envoy's listeners, its clusters, its TLS statistics.
func trace(ctx context.Context, w *scene.Workload, name string, port int) (path, error) {
	p := path{name: name}
	resolver := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return w.Host.DialContext(ctx, network, "127.0.0.1:15053")
	}}
	addrs, err := resolver.LookupNetIP(ctx, "ip4", name)
	if err != nil {
		return p, fmt.Errorf("resolve %s: %w", name, err)
	}
	p.vip = addrs[0].String()
	client := scene.HTTPClient(w.Host)
	defer client.CloseIdleConnections()
	listeners, err := lines(ctx, client, "/listeners")
	if err != nil {
		return p, err
	}
	want := fmt.Sprintf("outbound:%s:%d", p.vip, port)
	for _, l := range listeners {
		if listener, _, ok := strings.Cut(l, "::"); ok && listener == want {
			p.listener = listener
		}
	}
	p.cluster, p.endpoints, err = clusterOf(ctx, client, port)
	if err != nil {
		return p, err
	}
	stats, err := lines(ctx, client, "/stats?usedonly&filter=ssl.versions")
	if err != nil {
		return p, err
	}
	for _, s := range stats {
		counter, _, _ := strings.Cut(s, ":")
		if version, ok := strings.CutPrefix(counter, "cluster."+p.cluster+".ssl.versions."); ok {
			p.tls = version
		}
	}
	return p, nil
}

// clusterOf finds the cluster of the backend service and the addresses behind it.
func clusterOf(ctx context.Context, client *http.Client, port int) (string, []string, error) {
	clusters, err := lines(ctx, client, "/clusters")
	if err != nil {
		return "", nil, err
	}
	var cluster string
	var endpoints []string
	for _, c := range clusters {
		parts := strings.Split(c, "::")
		if len(parts) < 3 || !strings.HasPrefix(parts[0], "default_backend_") || !strings.HasSuffix(parts[0], fmt.Sprintf("_msvc_%d", port)) {
			continue
		}
		cluster = parts[0]
		if _, _, err := net.SplitHostPort(parts[1]); err == nil && !slices.Contains(endpoints, parts[1]) {
			endpoints = append(endpoints, parts[1])
		}
	}
	slices.Sort(endpoints)
	return cluster, endpoints, nil
}

func lines(ctx context.Context, client *http.Client, path string) ([]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, envoyAdmin+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask Envoy: %w", err)
	}
	defer resp.Body.Close()
	var out []string
	scan := bufio.NewScanner(io.LimitReader(resp.Body, 16<<20))
	for scan.Scan() {
		out = append(out, scan.Text())
	}
	return out, scan.Err()
}
