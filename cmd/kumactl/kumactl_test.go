package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
	"github.com/kuma-dp/kuma-dp/controlplane"
	"github.com/kuma-dp/kuma-dp/controlplane/store"
	"github.com/kuma-dp/kuma-dp/controlplane/store/memory"
	"github.com/kuma-dp/kuma-dp/controlplane/token"
	"github.com/kuma-dp/kuma-dp/resource"
)

var update = flag.Bool("update", false, "write what kumactl prints into the scripts that compare it")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestScripts runs kumactl inside this process against a control plane with the memory store, at $CP. $RECORDED answers
// with what testdata/recorded has of a control plane of 2.9, for what needs connected proxies. Commands of the scripts:
//
//	kumactl args…      succeeds; with ! it exits with 1
//	misuse args…       kumactl exits with 2
//	piped FILE args…   kumactl with FILE as its standard input
//	token FILE NAME    FILE is a dataplane token that lets the proxy NAME in, by the keys of the control plane
//	data FILE OUT      OUT gets the content of the secret in FILE
//	mode FILE MODE     FILE has these permissions
func TestScripts(t *testing.T) {
	recorded := httptest.NewServer(http.HandlerFunc(replay))
	t.Cleanup(recorded.Close) // the scripts run in parallel, after this function
	testscript.Run(t, testscript.Params{
		Dir: "testdata", UpdateScripts: *update,
		Setup: func(env *testscript.Env) error {
			url, err := controlPlane(env.Defer)
			if err != nil {
				return err
			}
			env.Setenv("CP", url)
			env.Setenv("RECORDED", recorded.URL)
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
				v, done := validator(ts)
				defer done()
				_, err := v.AuthenticateProxy(ts.ReadFile(args[0]), token.Proxy{
					Name: args[1], Mesh: "default", Tags: map[string][]string{"kuma.io/service": {"web"}},
				})
				if (err == nil) == neg {
					ts.Fatalf("token: got error %v", err)
				}
			},
			"data": func(ts *testscript.TestScript, _ bool, args []string) {
				var secret struct{ Data []byte }
				ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &secret))
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), secret.Data, 0o600))
			},
			"mode": func(ts *testscript.TestScript, _ bool, args []string) {
				info, err := os.Stat(ts.MkAbs(args[0]))
				ts.Check(err)
				if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
					ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
				}
			},
		},
	})
}

// fileFlags are those whose value is relative to the directory of a script.
var fileFlags = []string{"-f", "--signing-key-path", "--key-file", "--cert-file", "--ca-cert-file", "--client-cert-file", "--client-key-file"}

func execute(ts *testscript.TestScript, want int, stdin string, args []string) {
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "--config-file") || a == "--no-config" }) {
		args = append([]string{"--config-file", ts.MkAbs(".kuma/config")}, args...)
	}
	for i, a := range args {
		if i > 0 && slices.Contains(fileFlags, args[i-1]) && a != "-" && !strings.Contains(a, "://") {
			args[i] = ts.MkAbs(a)
		}
	}
	lookup := func(name string) (string, bool) {
		value := ts.Getenv(name)
		return value, value != ""
	}
	if got := run(args, lookup, strings.NewReader(stdin), ts.Stdout(), ts.Stderr()); got != want {
		ts.Fatalf("kumactl exited with %s, want %s", strconv.Itoa(got), strconv.Itoa(want))
	}
}

// replay answers a GET of /a/b?c=d with testdata/recorded/a~b,c=d.
func replay(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	query.Del("size")
	name := strings.ReplaceAll(strings.Trim(r.URL.Path, "/"), "/", "~")
	if len(query) > 0 {
		name += "," + query.Encode()
	}
	body, err := os.ReadFile(filepath.Join("testdata", "recorded", name))
	if err != nil {
		http.Error(w, "404: Page Not Found", http.StatusNotFound)
		return
	}
	_, _ = w.Write(body)
}

// controlPlane starts one with the memory store and returns the address of its API.
func controlPlane(atEnd func(func())) (url string, err error) {
	dir, err := os.MkdirTemp("", "kumactl")
	if err != nil {
		return "", err
	}
	cfg := controlplane.DefaultConfig()
	cfg.General.WorkDir = dir
	cfg.Store.Type = controlplane.StoreMemory
	cfg.Multizone.Zone.Name = "zone-1"
	cfg.APIServer.HTTP.Interface, cfg.APIServer.HTTPS.Interface = "127.0.0.1", "127.0.0.1"
	cfg.APIServer.HTTP.Port, cfg.APIServer.HTTPS.Port, cfg.DPServer.Port, cfg.Diagnostics.ServerPort = 0, 0, 0, 0
	cp, err := controlplane.New(cfg, nil)
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- cp.Run(ctx) }()
	select {
	case <-cp.Ready():
	case err := <-done:
		cancel()
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	atEnd(func() {
		cancel()
		<-done
		os.RemoveAll(dir)
	})
	return "http://" + cp.Addresses().HTTP.String(), nil
}

// validator checks tokens with the signing key that the control plane has.
func validator(ts *testscript.TestScript) (*token.Validator, func()) {
	reg := resource.NewRegistry(resource.Core()...)
	s := memory.Open(reg)
	resp, err := http.Get(ts.Getenv("CP") + "/meshes/default/secrets/dataplane-token-signing-key-default-1")
	ts.Check(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ts.Check(err)
	key, err := reg.Decode(text)
	ts.Check(err)
	mesh := &resource.Resource{Meta: resource.Meta{Key: resource.Key{Kind: resource.KindMesh, Name: "default"}}, Spec: &resource.Mesh{}}
	_, err = s.Commit(context.Background(), store.Op{Action: store.Create, Resource: mesh}, store.Op{Action: store.Create, Resource: key})
	ts.Check(err)
	v, err := token.NewValidator(s, nil)
	ts.Check(err)
	return v, func() { s.Close() }
}

func noVariables(string) (string, bool) { return "", false }

// TestHelp keeps every command described.
func TestHelp(t *testing.T) {
	var visit func(path []string, cmd *cobra.Command)
	visit = func(path []string, cmd *cobra.Command) {
		var out, errs bytes.Buffer
		if code := run(append(path, "--help"), noVariables, strings.NewReader(""), &out, &errs); code != exitOK || !strings.Contains(out.String(), "Usage:") {
			t.Errorf("%v: exit %d, %s%s", path, code, out.String(), errs.String())
		}
		if cmd.Short == "" {
			t.Errorf("%v is not described", path)
		}
		for _, sub := range cmd.Commands() {
			visit(append(path[:len(path):len(path)], sub.Name()), sub)
		}
	}
	visit(nil, newRootCommand(&app{}))
}

func TestUnreachable(t *testing.T) {
	var out, errs bytes.Buffer
	code := run([]string{"get", "meshes", "--address", "http://127.0.0.1:1"}, noVariables, strings.NewReader(""), &out, &errs)
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
