//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/realenvoy"
	"github.com/kuma-dp/kuma-dp/test/scene"
)

const (
	// permission has its action filled in.
	permission = `{"type":"MeshTrafficPermission","mesh":"default","name":"all","spec":{"targetRef":` +
		`{"kind":"MeshSubset","tags":{"kuma.io/service":"backend"}},` +
		`"from":[{"targetRef":{"kind":"Mesh"},"default":{"action":%q}}]}}`
	permissionURL = "http://127.0.0.1:5681/meshes/default/meshtrafficpermissions/all"
	// settle is how long a process is left alone before its idle memory is read.
	settle = 5 * time.Second
	// pause between two questions whether a change is there; it adds to what is measured.
	pause = 500 * time.Microsecond
)

type bench struct {
	scene           *scene.Scene
	bin             string
	starts, changes int
	web             *scene.Workload
	url             string
}

// section is a part of the table that can be had alone, after those that it needs.
type section struct {
	name  string
	needs []string
	run   func(context.Context) ([]row, error)
}

func (b *bench) sections() []section {
	return []section{
		{"go", nil, b.goBenches},
		{"puts", nil, b.puts},
		{"dns", nil, b.resolvers},
		{"redirection", nil, b.redirection},
		{"identity", nil, b.identities},
		{"scene", nil, b.newScene},
		{"control-plane", []string{"scene"}, b.controlPlane},
		{"mesh", []string{"control-plane"}, b.up},
		{"agent-memory", []string{"mesh"}, b.agentMemory},
		{"policy-change", []string{"mesh"}, b.policyChange},
		{"agent-start", []string{"mesh"}, b.agentStart},
		{"identity-mesh", []string{"mesh"}, b.identityMesh},
	}
}

// choose returns the sections whose names match, and those that they need.
func choose(all []section, only *regexp.Regexp) ([]section, error) {
	wanted := map[string]bool{}
	for _, s := range slices.Backward(all) { // what is needed comes before
		if only.MatchString(s.name) || wanted[s.name] {
			wanted[s.name] = true
			for _, n := range s.needs {
				wanted[n] = true
			}
		}
	}
	chosen := slices.DeleteFunc(all, func(s section) bool { return !wanted[s.name] })
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no section matches %q", only)
	}
	return chosen, nil
}

// measure measures one thing after the other.
func (b *bench) measure(ctx context.Context, only *regexp.Regexp) ([]row, error) {
	chosen, err := choose(b.sections(), only)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, s := range chosen {
		r, err := s.run(ctx)
		if err != nil {
			return nil, fmt.Errorf("section %s: %w", s.name, err)
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

// newScene is what the rest is measured on.
func (b *bench) newScene(context.Context) ([]row, error) {
	envoy, err := realenvoy.Find()
	if err != nil {
		return nil, err
	}
	b.scene, err = scene.New(scene.Config{Prefix: "kuma-bench", Bin: b.bin, Envoy: envoy})
	return nil, err
}

// controlPlane starts kuma-cp again and again on the same store, then reads its idle memory.
func (b *bench) controlPlane(ctx context.Context) ([]row, error) {
	first := time.Now()
	if err := b.scene.StartControlPlane(ctx); err != nil {
		return nil, err
	}
	fresh := time.Since(first)
	var ready []time.Duration
	for range b.starts {
		if err := b.scene.ControlPlane.Stop(ctx); err != nil {
			return nil, err
		}
		since := time.Now()
		if err := b.scene.ControlPlane.Start(ctx); err != nil {
			return nil, err
		}
		ready = append(ready, time.Since(since))
	}
	if err := sleep(ctx, settle); err != nil {
		return nil, err
	}
	idle, err := rss(b.scene.ControlPlane.Process.PID())
	if err != nil {
		return nil, err
	}
	return []row{
		{"control plane: start → ready", "0.25 s", "0.10 s", spread(ready) + fmt.Sprintf("; the very first, which makes the keys: %v", fresh.Round(time.Millisecond))},
		{"control plane: idle RSS", "87 MB", "35 MB", idle},
	}, nil
}

// up brings up the mesh that the rest is measured on.
func (b *bench) up(ctx context.Context) ([]row, error) {
	if err := b.scene.Apply(ctx, scene.Mesh); err != nil {
		return nil, err
	}
	if err := b.scene.Apply(ctx, fmt.Sprintf(permission, "Allow")); err != nil {
		return nil, err
	}
	for _, name := range []string{"backend", "web"} {
		w, err := b.scene.AddWorkload(ctx, scene.WorkloadConfig{Name: name, Service: name})
		if err != nil {
			return nil, err
		}
		b.web = w
	}
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return b.web.Host.DialContext(ctx, network, "127.0.0.1:15053")
	}}
	addrs, err := r.LookupNetIP(ctx, "ip4", "backend.svc.mesh.local")
	if err != nil {
		return nil, err
	}
	b.url = "http://" + net.JoinHostPort(addrs[0].String(), "8080")
	return nil, nil
}

func (b *bench) agentMemory(ctx context.Context) ([]row, error) {
	if err := sleep(ctx, settle); err != nil {
		return nil, err
	}
	used, err := rss(b.web.Agent.PID())
	if err != nil {
		return nil, err
	}
	binary, err := size(b.scene.Path("kuma-dp"))
	if err != nil {
		return nil, err
	}
	return []row{
		{"agent: RSS, DNS on", "70 MB + CoreDNS", "20 MB", used},
		{"agent: size of kuma-dp, stripped", "122 MB unstripped", "25 MB", binary},
	}, nil
}

// policyChange turns a permission over and times from the PUT's sending until the client's requests see it.
func (b *bench) policyChange(ctx context.Context) ([]row, error) {
	admin, client := scene.HTTPClient(b.scene.ControlPlane.Host), scene.HTTPClient(b.web.Host)
	defer admin.CloseIdleConnections()
	defer client.CloseIdleConnections()
	var enforced []time.Duration
	for i := range b.changes {
		action, want := "Deny", http.StatusForbidden
		if i%2 == 1 {
			action, want = "Allow", http.StatusOK
		}
		since := time.Now()
		if err := put(ctx, admin, permissionURL, fmt.Sprintf(permission, action)); err != nil {
			return nil, err
		}
		if err := b.until(ctx, client, want); err != nil {
			return nil, err
		}
		enforced = append(enforced, time.Since(since))
	}
	return []row{{"policy change: PUT → enforced, one proxy", "median 0.3 s, max 1.9 s", "median 15 ms, p99 50 ms", spread(enforced)}}, nil
}

// agentStart stops and starts the client's agent and times from its start to the first answer over mTLS.
func (b *bench) agentStart(ctx context.Context) ([]row, error) {
	var first []time.Duration
	for range b.starts {
		b.web.KillAgent()
		client := scene.HTTPClient(b.web.Host)
		since := time.Now()
		if err := b.web.StartAgent(ctx, scene.WorkloadConfig{}); err != nil {
			return nil, err
		}
		if err := b.until(ctx, client, http.StatusOK); err != nil {
			return nil, fmt.Errorf("%w; the agent said:\n%s", err, b.web.Agent.Log())
		}
		first = append(first, time.Since(since))
		client.CloseIdleConnections()
	}
	return []row{{"agent: start → first mTLS response", "1.48–1.73 s", "0.30 s", spread(first)}}, nil
}

// until asks through the proxy until the status is want.
func (b *bench) until(ctx context.Context, client *http.Client, want int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		got, err := ask(ctx, client, b.url)
		if got == want {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s does not answer %d: %w", b.url, want, errors.Join(err, ctx.Err()))
		}
		// Asking without pause would take the processor from those who are to change.
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func ask(ctx context.Context, client *http.Client, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func put(ctx context.Context, client *http.Client, url, body string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("PUT %s answers %s: %s", url, resp.Status, answer)
	}
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
