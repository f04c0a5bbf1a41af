package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/spf13/cobra"

	"github.com/kuma-dp/kuma-dp/cmd/kumactl/client"
)

// TestExamples runs every example of the help texts, and so of the reference, against a control plane, in a directory
// with the files of testdata/examples. Redirection changes the host: its own tests run it.
func TestExamples(t *testing.T) {
	url, err := controlPlane(t.Cleanup)
	if err != nil {
		t.Fatal(err)
	}
	archive, err := txtar.ParseFile(filepath.Join("testdata", "examples"))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for _, f := range archive.Files {
		if err := os.MkdirAll(filepath.Dir(f.Name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Name, f.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := client.Default()
	cfg.ControlPlanes[0].Coordinates.APIServer.URL = url
	if err := cfg.Save("config"); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUMACTL_CONFIG_FILE", "config")
	ran := 0
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		for line := range strings.Lines(strings.ReplaceAll(cmd.Example, "\\\n", "")) {
			line = strings.NewReplacer(client.DefaultAddress, url, "$TOKEN", "a.b.c").Replace(strings.TrimSpace(line))
			line, file, redirected := strings.Cut(line, " > ")
			var out, errs bytes.Buffer
			if code := run(strings.Fields(line)[1:], os.LookupEnv, strings.NewReader(""), &out, &errs); code != exitOK {
				t.Errorf("%s: exit %d: %s", line, code, errs.String())
			}
			if redirected {
				if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
					t.Error(err)
				}
			}
			ran++
		}
		for _, sub := range cmd.Commands() {
			if sub.Name() != "transparent-proxy" && sub.Name() != "completion" {
				visit(sub)
			}
		}
	}
	root := newRootCommand(&app{})
	for _, first := range [][]string{{"apply"}, {"generate", "signing-key"}} { // the others need what these make
		cmd, _, err := root.Find(first)
		if err != nil {
			t.Fatal(err)
		}
		visit(cmd)
		cmd.Parent().RemoveCommand(cmd)
	}
	visit(root)
	if ran < 20 {
		t.Errorf("only %d examples were found", ran)
	}
}
