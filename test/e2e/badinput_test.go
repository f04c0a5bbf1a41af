//go:build linux

package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

const validDataplane = `type: Dataplane
mesh: default
name: bad-1
networking:
  address: 127.0.0.1
  inbound:
  - port: 8080
    tags: {kuma.io/service: bad}
`

// TestBadInput runs the binaries wrongly: each mistake ends in one line that says what, where and what to do, and in the exit
// code of its class (1 configuration or start, 2 usage, 3 control plane, 4 Envoy).
func TestBadInput(t *testing.T) {
	s := newScene(t, "kuma-bad")
	apply(t, s, scene.Mesh)
	dir := s.Dir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	token := func(name, validFor string) string {
		t.Helper()
		text, err := s.Kumactl(ctx(t), nil, "generate", "dataplane-token", "--name", name, "--mesh", "default", "--valid-for", validFor)
		if err != nil {
			t.Fatal(err)
		}
		return write("token-"+name+"-"+validFor, text)
	}
	good, resource := token("bad-1", "1h"), write("good.yaml", validDataplane)
	agent := func(args ...string) []string {
		return append([]string{
			"kuma-dp", "run", "--cp-address", s.ControlPlane.URL(), "--ca-cert-file", s.ControlPlane.CAFile(),
			"--binary-path", s.Path("envoy"),
		}, args...)
	}
	// An agent looks for Envoy beside itself too.
	alone := filepath.Join(dir, "kuma-dp")
	if err := os.Link(s.Path("kuma-dp"), alone); err != nil {
		t.Fatal(err)
	}
	taken, err := s.ControlPlane.Host.Listen("tcp", "127.0.0.1:9902")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()

	for _, test := range []struct {
		name string
		args []string
		env  []string
		code int
		want []string
	}{
		{"unknown flag", []string{"kuma-dp", "run", "--no-such-flag"}, nil, 2, []string{"--no-such-flag"}},
		{"unknown command of the agent", []string{"kuma-dp", "fly"}, nil, 2, []string{"fly"}},
		{"unknown command of the control plane", []string{"kuma-cp", "fly"}, nil, 2, []string{"fly"}},
		{"unknown command of kumactl", []string{"kumactl", "fly"}, nil, 2, []string{"fly"}},
		{"nothing to run", agent(), nil, 1, []string{".Name must be non-empty"}},
		{"missing file", agent("--dataplane-file", "/nowhere.yaml"), nil, 1, []string{"/nowhere.yaml"}},
		{"malformed resource", agent("--dataplane-file", write("bad.yaml", "type: Dataplane\nnetworking: [")), nil, 1, []string{"bad.yaml"}},
		{
			"refused resource", agent("--dataplane-token-file", good, "--dataplane-file",
				write("refused.yaml", strings.Replace(validDataplane, "kuma.io/service: bad", "a: b", 1))),
			[]string{"KUMA_READINESS_PORT=19902"},
			3,
			[]string{`kuma.io/service`, "tag has to exist"},
		},
		{"empty token", agent("--dataplane-file", resource, "--dataplane-token-file", write("empty", "")), nil, 1, []string{"is empty"}},
		{"token that is none", agent("--dataplane-file", resource, "--dataplane-token-file", write("junk", "junk")), nil, 1, []string{"not valid JWT token"}},
		{
			"token of another proxy", agent("--dataplane-file", resource, "--dataplane-token-file", token("other-1", "1h")), nil, 1,
			[]string{"other-1", "bad-1"},
		},
		{"expired token", agent("--dataplane-file", resource, "--dataplane-token-file", token("bad-1", "1ms")), nil, 3, []string{"expired"}},
		{
			"port in use", agent("--dataplane-file", resource, "--dataplane-token-file", good), nil, 1,
			[]string{"9902", strconv.Itoa(os.Getpid())},
		},
		{"no Envoy", append([]string{alone}, append(agent("--dataplane-file", resource, "--dataplane-token-file", good),
			"--binary-path", "/nowhere/envoy")[1:]...), []string{"PATH=/usr/bin"}, 4, []string{"/nowhere/envoy", "--binary-path"}},
		{
			"no control plane",
			[]string{
				"kuma-dp", "run", "--cp-address", "https://127.0.0.1:1", "--ca-cert-file", s.ControlPlane.CAFile(),
				"--binary-path", s.Path("envoy"), "--dataplane-file", resource, "--dataplane-token-file", good,
			},
			[]string{"KUMA_CONTROL_PLANE_RETRY_MAX_DURATION=50ms", "KUMA_CONTROL_PLANE_RETRY_BACKOFF=10ms", "KUMA_READINESS_PORT=19902"},
			3,
			[]string{"127.0.0.1:1"},
		},
		{
			"control plane of another authority",
			[]string{
				"kuma-dp", "run", "--cp-address", s.ControlPlane.URL(),
				"--binary-path", s.Path("envoy"), "--dataplane-file", resource, "--dataplane-token-file", good,
			},
			[]string{"KUMA_CONTROL_PLANE_RETRY_MAX_DURATION=50ms", "KUMA_CONTROL_PLANE_RETRY_BACKOFF=10ms", "KUMA_READINESS_PORT=19902"},
			3,
			[]string{"certificate", "--ca-cert-file"},
		},
		{"second control plane on one folder", []string{"kuma-cp", "run"}, []string{
			"KUMA_GENERAL_WORK_DIR=" + filepath.Dir(s.ControlPlane.CAFile()),
		}, 1, []string{"kuma-cp"}},
		{"port of the control plane in use", []string{"kuma-cp", "run"}, []string{
			"KUMA_GENERAL_WORK_DIR=" + filepath.Join(dir, "second"),
		}, 1, []string{"address already in use", strconv.Itoa(s.ControlPlane.Process.PID())}},
		{"unknown store", []string{"kuma-cp", "run"}, []string{"KUMA_STORE_TYPE=clay"}, 1, []string{"clay"}},
		{"apply of a missing file", []string{"kumactl", "apply", "-f", "/nowhere.yaml"}, nil, 1, []string{"/nowhere.yaml"}},
		{
			"redirection for nobody",
			[]string{"kumactl", "install", "transparent-proxy", "--kuma-dp-user", "no-such-user"},
			nil, 1,
			[]string{"no-such-user"},
		},
		{"redirection of an impossible port", []string{
			"kumactl", "install", "transparent-proxy", "--kuma-dp-user", "0",
			"--exclude-inbound-ports", "99999",
		}, nil, 2, []string{"99999"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, stderr := runOn(t, s, test.args, test.env)
			if code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			last := lastLine(stderr)
			if !strings.HasPrefix(last, "Error: ") {
				t.Errorf("the last line is not the error: %q", last)
			}
			for _, want := range test.want {
				if !strings.Contains(last, want) {
					t.Errorf("the error does not say %q: %q", want, last)
				}
			}
			if t.Failed() {
				t.Logf("all of it:\n%s", stderr)
			}
		})
	}

	t.Run("nothing is half-installed", func(t *testing.T) {
		out, err := s.ControlPlane.Host.Command(ctx(t), 0, "iptables-save").Output()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(out), "MESH") {
			t.Errorf("rules are there:\n%s", out)
		}
	})

	t.Run("a refused change leaves the stored one", func(t *testing.T) {
		apply(t, s, scene.Permission)
		bad := strings.Replace(scene.Permission, "action: Allow", "action: Perhaps", 1)
		if err := s.Apply(ctx(t), bad); err == nil || !strings.Contains(err.Error(), "spec.from[0].default.action") {
			t.Errorf("got %v, want a refusal that names the field", err)
		}
		out, err := s.Kumactl(ctx(t), nil, "get", "meshtrafficpermission", "web-to-backend", "-o", "yaml")
		if err != nil || !strings.Contains(out, "action: Allow") {
			t.Errorf("stored is %s (%v)", out, err)
		}
	})
}

// runOn runs a binary on the control plane's host to its end.
func runOn(t *testing.T, s *scene.Scene, args, env []string) (code int, stderr string) {
	t.Helper()
	c, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	binary := args[0]
	if !filepath.IsAbs(binary) {
		binary = s.Path(binary)
	}
	cmd := s.ControlPlane.Host.Command(c, 0, binary, args[1:]...)
	cmd.Env = append(append(os.Environ(), "HOME="+s.Dir()), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	err := cmd.Run()
	if c.Err() != nil {
		t.Fatalf("%v did not end:\n%s", args, errs.String())
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode(), errs.String()
	} else if err != nil {
		t.Fatal(err)
	}
	return 0, errs.String()
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// TestTwoAgentsOnOneHost gives the second agent ports of its own; with the same ones it says who has them: the user, as an
// agent hides its files from others.
func TestTwoAgentsOnOneHost(t *testing.T) {
	s := newScene(t, "kuma-two")
	apply(t, s, scene.Mesh+"---\n"+scene.Permission)
	first := add(t, s, scene.WorkloadConfig{Name: "first", Service: "first"})

	same := first.Second("second", "second", 9901)
	if err := same.Start(ctx(t)); err != nil {
		t.Fatal(err)
	}
	if code, err := same.Agent.Wait(ctx(t)); code != 1 {
		t.Errorf("exit code %d (%v), want 1", code, err)
	}
	if last := lastLine(same.Agent.Log()); !strings.Contains(last, "9902") || !strings.Contains(last, strconv.Itoa(scene.ProxyUID)) {
		t.Errorf("the error names neither the port nor its owner: %q", last)
	}

	second := first.Second("second", "second", 9911)
	if err := second.Start(ctx(t), "KUMA_READINESS_PORT=9912", "KUMA_DNS_ENABLED=false"); err != nil {
		t.Fatal(err)
	}
	if err := second.Ready(ctx(t), 9912); err != nil {
		t.Fatalf("%v\n%s", err, second.Agent.Log())
	}
	if err := first.Ready(ctx(t)); err != nil {
		t.Errorf("the first agent suffers: %v", err)
	}
}
