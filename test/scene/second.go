//go:build linux

package scene

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Second is a further agent on the host of a workload, for a service without redirection.
type Second struct {
	Agent *Process
	first *Workload
	name  string
	admin int
	svc   string
}

// Second describes a further agent: its Dataplane's name, its service and Envoy's admin port. Nothing runs until Start.
func (w *Workload) Second(name, service string, adminPort int) *Second {
	return &Second{first: w, name: name, svc: service, admin: adminPort}
}

// Start runs the agent with these further variables, NAME=value; it does not wait for readiness.
func (s *Second) Start(ctx context.Context, env ...string) error {
	w := s.first
	dir := filepath.Join(w.scene.dir, w.Name+"-"+s.name)
	token, err := w.scene.Kumactl(ctx, nil, "generate", "dataplane-token", "--name", s.name, "--mesh", "default", "--valid-for", "24h")
	if err != nil {
		return err
	}
	resource := fmt.Sprintf("type: Dataplane\nmesh: default\nname: %s\nnetworking:\n  address: %s\n  admin: {port: %d}\n"+
		"  inbound:\n  - port: 18080\n    servicePort: 8080\n    tags: {kuma.io/service: %s, kuma.io/protocol: http}\n", s.name, w.Host.Addr, s.admin, s.svc)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	tokenFile, file := filepath.Join(dir, "token"), filepath.Join(dir, "dataplane.yaml")
	if err := errors.Join(os.WriteFile(tokenFile, []byte(token), 0o600), os.WriteFile(file, []byte(resource), 0o600)); err != nil {
		return err
	}
	for _, path := range []string{dir, tokenFile, file} {
		if err := os.Chown(path, ProxyUID, ProxyUID); err != nil {
			return err
		}
	}
	ca, err := os.ReadFile(w.scene.ControlPlane.CAFile())
	if err != nil {
		return err
	}
	cmd := w.Host.Command(context.WithoutCancel(ctx), ProxyUID, w.scene.Path("kuma-dp"),
		"run", "--cp-address", w.scene.ControlPlane.URL(), "--dataplane-file", file, "--dataplane-token-file", tokenFile,
		"--binary-path", w.scene.Path("envoy"), "--concurrency", "1")
	cmd.Env = append(append(os.Environ(), "HOME="+dir, "TMPDIR="+dir, "KUMA_CONTROL_PLANE_CA_CERT="+string(ca)), env...)
	s.Agent, err = w.scene.start(s.name, cmd)
	return err
}

// Ready waits until the agent says so on its readiness port.
func (s *Second) Ready(ctx context.Context, port int) error {
	return ready(ctx, s.first.Host, s.Agent, port)
}
