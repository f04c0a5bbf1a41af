package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
	"github.com/kuma-dp/kuma-dp/controlplane/api"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/policy/all"
	"github.com/kuma-dp/kuma-dp/resource"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestScripts runs kumactl inside this process against a real API over a memory store. Commands of the scripts:
//
//	kumactl args…      succeeds; with ! it exits with 1
//	misuse args…       kumactl exits with 2
//	piped FILE args…   kumactl with FILE as its standard input
//	token FILE NAME    FILE is a dataplane token that lets the proxy NAME in
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			url, v, err := controlPlane(env)
			if err != nil {
				return err
			}
			env.Setenv("CP", url)
			env.Values["validator"] = v
			cfg := client.Default()
			cfg.ControlPlanes[0].Coordinates.APIServer.URL = url
			return cfg.Save(filepath.Join(env.WorkDir, ".kuma", "config"))
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"kumactl": func(ts *testscript.TestScript, neg bool, args []string) {
				want := exitOK
				if neg {
					want = exitFailure
				}
				execute(ts, want, "", args)
			},
			"misuse": func(ts *testscript.TestScript, _ bool, args []string) { execute(ts, exitUsage, "", args) },
			"piped": func(ts *testscript.TestScript, _ bool, args []string) {
				execute(ts, exitOK, ts.ReadFile(args[0]), args[1:])
			},
			"token": func(ts *testscript.TestScript, neg bool, args []string) {
				v := ts.Value("validator").(*token.Validator)
				_, err := v.AuthenticateProxy(ts.ReadFile(args[0]), token.Proxy{
					Name: args[1], Mesh: "default", Tags: map[string][]string{"kuma.io/service": {"web"}},
				})
				if (err == nil) == neg {
					ts.Fatalf("token: got error %v", err)
				}
			},
		},
	})
}

func execute(ts *testscript.TestScript, want int, stdin string, args []string) {
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--config-file") }) {
		args = append([]string{"--config-file", ts.MkAbs(".kuma/config")}, args...)
	}
	for i, a := range args {
		if i > 0 && args[i-1] == "-f" && a != "-" {
			args[i] = ts.MkAbs(a)
		}
	}
	if got := run(args, strings.NewReader(stdin), ts.Stdout(), ts.Stderr()); got != want {
		ts.Fatalf("kumactl exited with %s, want %s", strconv.Itoa(got), strconv.Itoa(want))
	}
}

// controlPlane serves an API that makes signing keys with meshes, as a control plane does.
func controlPlane(env *testscript.Env) (url string, v *token.Validator, err error) {
	ctx := context.Background()
	reg := resource.NewRegistry(all.Descriptors()...)
	s := memory.Open(reg)
	env.Defer(func() { s.Close() })
	mesh := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: "default"}}, Spec: &resource.Mesh{}}
	if _, err = s.Commit(ctx, store.Op{Action: store.Create, Resource: mesh}); err != nil {
		return "", nil, err
	}
	if err = token.EnsureDataplaneKey(ctx, s, "default"); err != nil {
		return "", nil, err
	}
	if v, err = token.NewValidator(s, nil); err != nil {
		return "", nil, err
	}
	server, err := api.New(api.Config{
		Store: s, Registry: reg, Issuer: token.NewIssuer(s, nil), Validator: v, LocalhostIsAdmin: true,
		Zone:  resource.ZoneInfo{Zone: "zone-1"},
		Index: api.Index{Product: "Kuma", Version: "2.9.13"},
	})
	if err != nil {
		return "", nil, err
	}
	h := httptest.NewServer(server.Handler())
	env.Defer(h.Close)
	return h.URL, v, nil
}

// TestHelp keeps every command described.
func TestHelp(t *testing.T) {
	for _, args := range [][]string{
		{"--help"},
		{"apply", "--help"},
		{"get", "--help"},
		{"delete", "--help"},
		{"generate", "--help"},
		{"generate"},
		{"config", "control-planes", "add", "--help"},
		{"version", "--help"},
	} {
		var out, errs bytes.Buffer
		if code := run(args, strings.NewReader(""), &out, &errs); code != exitOK || !strings.Contains(out.String(), "Usage:") {
			t.Errorf("%v: exit %d, %s%s", args, code, out.String(), errs.String())
		}
	}
}

func TestUnreachable(t *testing.T) {
	var out, errs bytes.Buffer
	code := run([]string{"get", "meshes", "--address", "http://127.0.0.1:1"}, strings.NewReader(""), &out, &errs)
	if code != exitFailure || strings.Count(errs.String(), "\n") != 1 || !strings.Contains(errs.String(), "http://127.0.0.1:1") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"type: Mesh\nname: default\n", "---\ntype: Mesh\nname: a\n---\n# none\n---\ntype: Mesh\nname: {{ b }}\n",
		`{"type":"Mesh","name":"x"}`, "{{#a}}x{{/a}}", "{{> /etc/passwd}}", "- a\n- b\n", "a: &a [*a]", "\x00",
	} {
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, template bool) {
		var values map[string]any
		if template {
			values = map[string]any{"a": "1", "b": map[string]any{"c": "2"}}
		}
		docs, err := parse(text, values, "default")
		if err != nil {
			return
		}
		for _, d := range docs {
			if d.Type == "" || d.Name == "" || d.Mesh == "" {
				t.Errorf("document without %s", fmt.Sprint(d))
			}
		}
		if err := dump(&bytes.Buffer{}, docs); err != nil {
			t.Errorf("dump: %v", err)
		}
	})
}

func TestConfigFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "config")
	if err := client.Default().Save(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want 0600", info.Mode(), err)
	}
}
