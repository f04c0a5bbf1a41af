//go:build linux

package scene

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
)

// ControlPlane is the running kuma-cp of a scene.
type ControlPlane struct {
	Host    *netlab.Host
	Process *Process
	workDir string
	scene   *Scene
}

// StartControlPlane runs kuma-cp on the host "cp" and waits until it is ready. env are further variables, NAME=value.
func (s *Scene) StartControlPlane(ctx context.Context, env ...string) error {
	host, err := s.lab.AddHost("cp")
	if err != nil {
		return err
	}
	s.ControlPlane = &ControlPlane{Host: host, workDir: filepath.Join(s.dir, "cp"), scene: s}
	return s.ControlPlane.Start(ctx, env...)
}

// Start runs kuma-cp, again after Stop or Kill.
func (c *ControlPlane) Start(ctx context.Context, env ...string) error {
	// The command outlives ctx, which bounds only the start; Close of the scene ends it.
	cmd := c.Host.Command(context.WithoutCancel(ctx), 0, c.scene.Path("kuma-cp"), "run")
	cmd.Env = append(append(os.Environ(), "HOME="+c.scene.dir, "KUMA_GENERAL_WORK_DIR="+c.workDir), env...)
	p, err := c.scene.start("cp", cmd)
	if err != nil {
		return err
	}
	c.Process = p
	client := HTTPClient(c.Host)
	defer client.CloseIdleConnections()
	return await(ctx, p, "the control plane to be ready", func(ctx context.Context) error {
		return expectOK(ctx, client, "http://127.0.0.1:5680/ready")
	})
}

// Stop ends kuma-cp with SIGTERM and waits for it.
func (c *ControlPlane) Stop(ctx context.Context) error {
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the control plane: %w", err)
	}
	_, err := c.Process.Wait(ctx)
	return err
}

// Kill ends kuma-cp with SIGKILL and waits for it.
func (c *ControlPlane) Kill() { c.Process.kill() }

// URL is where agents find the control plane; CAFile is what they verify it with.
func (c *ControlPlane) URL() string { return "https://" + c.Host.Addr.String() + ":5678" }

// CAFile is the control plane's self-signed certificate.
func (c *ControlPlane) CAFile() string { return filepath.Join(c.workDir, "kuma-cp.crt") }

// Apply puts resources, as `kumactl apply -f -` does.
func (s *Scene) Apply(ctx context.Context, yaml string) error {
	_, err := s.Kumactl(ctx, strings.NewReader(yaml), "apply", "-f", "-")
	return err
}

func expectOK(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

// HTTPClient sends requests from host to numeric addresses. The caller closes its idle connections.
func HTTPClient(host *netlab.Host) *http.Client {
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{DialContext: host.DialContext},
		// The status of a redirect is an answer too.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
