//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
)

// TestInstall has what is kumactl's own: its exit codes, and a global flag with the name of one of redirection.
func TestInstall(t *testing.T) {
	h := redirectlab.NewHosts(t, "kctl-tp", "mesh")[0]
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("redirect: {inbound: {port: 25006}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"KUMACTL_CONFIG_FILE": "/nowhere/config", "KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_PORT": "25001"}
	for _, tc := range []struct {
		args      string
		code      int
		out, errs string
	}{
		{"install transparent-proxy --dry-run --kuma-dp-user 65534 --config-file " + file, exitOK, "--to-ports 25006", ""},
		{"install transparent-proxy --dry-run --kuma-dp-user 65534", exitOK, "--to-ports 25001", ""},
		{"uninstall transparent-proxy", exitOK, "no transparent proxy rules detected", ""},
		{"install transparent-proxy --config-file /nowhere/x", exitFailure, "", "Error: read settings: open /nowhere/x: no such file or directory\n"},
		{"install transparent-proxy --nope", exitUsage, "", "Error: unknown flag: --nope"},
		{"install transparent-proxy now", exitUsage, "", "Error: unexpected argument \"now\""},
		{"install control-plane", exitUsage, "", "nothing is installed on Kubernetes"},
		{"uninstall ebpf", exitUsage, "", "cannot uninstall ebpf"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := 0
			if err := h.Do(func() error {
				code = run(strings.Fields(tc.args), func(name string) (string, bool) { v, ok := env[name]; return v, ok }, strings.NewReader(""), &out, &errs)
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if code != tc.code || !strings.Contains(out.String(), tc.out) || !strings.Contains(errs.String(), tc.errs) || tc.errs == "" && errs.Len() > 0 {
				t.Errorf("exit %d, %q, %q", code, &out, &errs)
			}
		})
	}
}
