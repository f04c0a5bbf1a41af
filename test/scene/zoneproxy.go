//go:build linux

package scene

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
)

// ZoneProxy is a ZoneIngress or ZoneEgress on a host of its own.
type ZoneProxy struct {
	Host  *netlab.Host
	Agent *Process
}

// Ports of zone proxies.
const (
	IngressPort = 10001
	EgressPort  = 10002
)

const zoneProxy = `type: {{ type }}
name: {{ name }}
networking:
  address: {{ address }}
  port: {{ port }}
`

// AddZoneProxy starts a kuma-dp of a type, "ingress" or "egress", with a zone token, and waits until it is ready.
func (s *Scene) AddZoneProxy(ctx context.Context, name, proxyType string) (*ZoneProxy, error) {
	host, err := s.lab.AddHost(name)
	if err != nil {
		return nil, err
	}
	if err := AddUser(host); err != nil {
		return nil, err
	}
	dir := filepath.Join(s.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	token, err := s.zoneToken(ctx, proxyType)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(s.ControlPlane.CAFile())
	if err != nil {
		return nil, err
	}
	kind, port := "ZoneIngress", IngressPort
	if proxyType == "egress" {
		kind, port = "ZoneEgress", EgressPort
	}
	tokenFile, file := filepath.Join(dir, "token"), filepath.Join(dir, "zone-proxy.yaml")
	for path, text := range map[string]string{tokenFile: token, file: zoneProxy} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	for _, path := range []string{dir, tokenFile, file} {
		if err := os.Chown(path, ProxyUID, ProxyUID); err != nil {
			return nil, err
		}
	}
	cmd := host.Command(context.WithoutCancel(ctx), ProxyUID, s.Path("kuma-dp"),
		"run", "--proxy-type", proxyType, "--cp-address", s.ControlPlane.URL(), "--dataplane-file", file, "--dataplane-token-file", tokenFile,
		"--dataplane-var", "type="+kind, "--dataplane-var", "name="+name, "--dataplane-var", "address="+host.Addr.String(),
		"--dataplane-var", fmt.Sprintf("port=%d", port), "--binary-path", s.Path("envoy"), "--config-dir", dir, "--concurrency", "1")
	cmd.Env = append(os.Environ(), "HOME="+dir, "KUMA_CONTROL_PLANE_CA_CERT="+string(ca), "KUMA_DATAPLANE_RUNTIME_SOCKET_DIR="+dir)
	z := &ZoneProxy{Host: host}
	if z.Agent, err = s.start(name, cmd); err != nil {
		return nil, err
	}
	return z, ready(ctx, host, z.Agent, 9902)
}

// zoneToken asks the control plane, as an administrator on its host.
func (s *Scene) zoneToken(ctx context.Context, scope string) (string, error) {
	client := HTTPClient(s.ControlPlane.Host)
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1:5681/tokens/zone",
		strings.NewReader(fmt.Sprintf(`{"scope":[%q],"validFor":"24h"}`, scope)))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("issue a zone token: %s: %s", resp.Status, body)
	}
	return string(body), err
}
