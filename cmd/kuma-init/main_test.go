//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
)

// built is the binary as it is released.
func built(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kuma-init")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	// Other users run it too.
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// pod is a host with the user and the resolver configuration of the contract's machine.
func pod(t testing.TB, prefix string) *netlab.Host {
	t.Helper()
	h := redirectlab.NewHosts(t, prefix, "pod")[0]
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.SetEtc("passwd", string(passwd)+"kuma-dp:x:5678:5678::/nonexistent:/usr/sbin/nologin\n"); err != nil {
		t.Fatal(err)
	}
	if err := h.SetResolvConf(redirectlab.ResolvConf); err != nil {
		t.Fatal(err)
	}
	return h
}

// output runs a command in the pod and returns what it prints on both streams.
func output(t testing.TB, h *netlab.Host, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	cmd := h.Command(context.WithoutCancel(t.Context()), 0, name, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// TestPayloads has the released binary print all of the contract's appendix, in a network namespace like that of Kuma's runs.
func TestPayloads(t *testing.T) {
	bin := built(t)
	all := redirectlab.ReadAppendix(t, filepath.Join("..", "..", "transparentproxy", "testdata", "appendix-a.md"))
	on := func(h *netlab.Host) func(*testing.T, string) string {
		return func(t *testing.T, flags string) string {
			t.Helper()
			out, errs, err := output(t, h, bin, append([]string{"install", "transparent-proxy", "--dry-run"}, strings.Fields(flags)...)...)
			if err != nil {
				t.Fatalf("%v: %s", err, errs)
			}
			return out
		}
	}
	h := pod(t, "init-text")
	before := redirectlab.Snapshot(t, h)
	redirectlab.ComparePayloads(t, all, on(h))
	if after := redirectlab.Snapshot(t, h); after != before {
		t.Errorf("dry runs changed the host:\n%s", after)
	}
	docker := pod(t, "init-docker")
	redirectlab.Shell(t, docker, "", "iptables -t nat -N DOCKER_OUTPUT")
	redirectlab.CompareDocker(t, all, on(docker))
}

// inContainer makes a shell script of what a container is given: all file systems read-only, and root with these capabilities.
func inContainer(capabilities, command string) string {
	return `tac /proc/self/mountinfo | cut -d' ' -f5 | while read -r m; do mount -o remount,bind,ro "$m" || mount -o remount,ro "$m" || :; done 2>/dev/null
! touch /tmp/x /run/x /etc/x /dev/shm/x 2>/dev/null || { echo a file system can be written >&2; exit 9; }
exec setpriv --bounding-set=-all` + capabilities + ` --inh-caps=-all --ambient-caps=-all --no-new-privs -- ` + command
}

// leaveJournal puts a journal of an earlier network namespace, which had the number of this one, where the programs look.
func leaveJournal(t testing.TB, h *netlab.Host, backend string) {
	t.Helper()
	const state = "/run/kuma-tproxy"
	dir := filepath.Join(state, backend)
	var file string
	if err := h.Do(func() error {
		link, err := os.Readlink("/proc/thread-self/ns/net")
		file = filepath.Join(dir, strings.Trim(link, "net:[]")+".journal.json")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	const text = `{"namespace":"earlier","content":{"Addresses":{"::6/128":["iptables"]}}}`
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if got, err := os.ReadFile(file); err != nil || string(got) != text {
			t.Errorf("the journal of another namespace was changed: %s, %v", got, err)
		}
		if err := os.Remove(file); err != nil {
			t.Error(err)
		}
		_ = os.Remove(dir) // others may have files there
		_ = os.Remove(state)
	})
}

func TestReadOnlyContainer(t *testing.T) {
	bin := built(t)
	for _, tc := range []struct{ name, setup, backend, rules string }{
		{"nftables", "", "nftables", "nft list ruleset"},
		{"no iptables", "mount -t tmpfs none /usr/sbin; ! iptables-nft-restore --version 2>/dev/null || exit 9; ", "auto", "nft list ruleset"},
		{"iptables", "", "iptables-nft", "iptables-nft-save; ip6tables-nft-save"},
		{"legacy", "", "iptables-legacy", "iptables-legacy-save; ip6tables-legacy-save"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := pod(t, "init-ro")
			leaveJournal(t, h, tc.backend)
			container := func(command string) (string, string, error) {
				return output(t, h, "unshare", "--mount", "--propagation", "private", "sh", "-c", tc.setup+inContainer(",+net_admin,+net_raw", bin+" "+command))
			}
			for range 2 {
				out, errs, err := container("install transparent-proxy --redirect-dns --backend " + tc.backend)
				if err != nil || !strings.Contains(out, "set up successfully") {
					t.Fatalf("%v: %s", err, errs)
				}
			}
			rules := redirectlab.Shell(t, h, "", tc.rules)
			if !strings.Contains(rules, "KUMA_MESH_OUTBOUND") || !strings.Contains(rules, "5678") {
				t.Errorf("got\n%s", rules)
			}
			if got := redirectlab.Probe(t.Context(), h, redirectlab.AppUID, "tcp", "10.77.0.99:9000", ""); !strings.Contains(got, "refused") {
				t.Errorf("a connection to nobody is not redirected to nobody who listens: %s", got)
			}
			out, errs, err := container("uninstall transparent-proxy")
			if err != nil || !strings.Contains(out, "cleaned up successfully") {
				t.Errorf("%v: %s", err, errs)
			}
			if left := redirectlab.Shell(t, h, "", tc.rules); strings.Contains(left, "KUMA") {
				t.Errorf("left:\n%s", left)
			}
		})
	}
}

// TestPrivileges has root with too few capabilities, another user with enough, and one with none.
func TestPrivileges(t *testing.T) {
	bin := built(t)
	h := pod(t, "init-caps")
	before := redirectlab.Snapshot(t, h)
	for _, tc := range []struct{ name, setpriv, command, want string }{
		{"no NET_RAW", "--bounding-set=-all,+net_admin", "install", "this process lacks CAP_NET_RAW; run it as root, or give the container these capabilities"},
		{"no NET_ADMIN", "--bounding-set=-all,+net_raw", "install", "this process lacks CAP_NET_ADMIN;"},
		{"root with nothing", "--bounding-set=-all", "install", "you need to have root privileges to run this command: this process lacks CAP_NET_ADMIN and CAP_NET_RAW;"},
		{"another user", "--reuid=1000 --regid=1000 --clear-groups", "uninstall", "this process lacks CAP_NET_ADMIN and CAP_NET_RAW;"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			args := append(strings.Fields(tc.setpriv), "--inh-caps=-all", "--", bin, tc.command, "transparent-proxy")
			_, errs, err := output(t, h, "setpriv", args...)
			if err == nil || !strings.HasPrefix(errs, "Error: ") || !strings.Contains(errs, tc.want) || strings.Count(errs, "\n") != 1 {
				t.Errorf("%v, %q, want one line with %q", err, errs, tc.want)
			}
		})
	}
	if after := redirectlab.Snapshot(t, h); after != before {
		t.Errorf("something was changed:\n%s", after)
	}
	t.Run("user with the capabilities", func(t *testing.T) {
		setpriv := []string{"--reuid=1000", "--regid=1000", "--clear-groups", "--inh-caps=-all,+net_admin,+net_raw", "--ambient-caps=-all,+net_admin,+net_raw", "--bounding-set=-all,+net_admin,+net_raw", "--", bin}
		for _, words := range []string{"install transparent-proxy --redirect-dns", "uninstall transparent-proxy"} {
			if out, errs, err := output(t, h, "setpriv", append(setpriv, strings.Fields(words)...)...); err != nil || !strings.Contains(out, "successfully") {
				t.Errorf("%s: %v, %q", words, err, errs)
			}
		}
		if left := redirectlab.Shell(t, h, "", "nft list ruleset"); strings.Contains(left, "KUMA") {
			t.Errorf("left:\n%s", left)
		}
	})
	t.Run("printing needs none", func(t *testing.T) {
		out, errs, err := output(t, h, "setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--", bin, "install", "transparent-proxy", "--dry-run")
		if err != nil || !strings.Contains(out, "### IPv6 ###") || !strings.Contains(errs, "installing will not work, printing does") {
			t.Errorf("%v: %s\n%s", err, errs, out)
		}
	})
}

func TestCommandLine(t *testing.T) {
	bin := built(t)
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"version", 0, "Kuma: "},
		{"--help", 0, "The command line is that of kumactl"},
		{"install transparent-proxy --help", 0, "--exclude-inbound-ports"},
		{"fly", 2, `Error: unknown command "fly"`},
		{"install fly", 2, `Error: unknown command "fly"`},
		{"install transparent-proxy --nope", 2, "Error: unknown flag: --nope"},
		{"install transparent-proxy now", 2, `Error: unexpected argument "now"`},
		{"install transparent-proxy --config-file /nowhere", 1, "Error: read settings: open /nowhere: no such file or directory"},
	} {
		t.Run(tc.args, func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), bin, strings.Fields(tc.args)...)
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != tc.code || !strings.Contains(string(out), tc.want) {
				t.Errorf("exit %d, %v, %s, want %d and %q", code, err, out, tc.code, tc.want)
			}
		})
	}
}

// BenchmarkStart prints how long the process takes, from its start to its end: the budget is 10 ms.
func BenchmarkStart(b *testing.B) {
	bin := built(b)
	h := pod(b, "init-bench")
	for name, words := range map[string][]string{"version": {"version"}, "help": {"install", "transparent-proxy", "--help"}, "refusal": {"install", "transparent-proxy", "--kuma-dp-user", "nosuch"}} {
		b.Run(name, func(b *testing.B) {
			if err := h.Do(func() error {
				for b.Loop() {
					_ = exec.CommandContext(b.Context(), bin, words...).Run() // one of them fails, as it should
				}
				return nil
			}); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// TestExamplePod runs the arguments of the documented pod with its annotations, and holds what it may.
func TestExamplePod(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "packaging", "kuma-init", "pod.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var example struct {
		Metadata struct{ Annotations map[string]string }
		Spec     struct {
			InitContainers []struct {
				Args            []string
				SecurityContext struct {
					ReadOnlyRootFilesystem bool `yaml:"readOnlyRootFilesystem"`
					Capabilities           struct{ Drop, Add []string }
				} `yaml:"securityContext"`
			} `yaml:"initContainers"`
		}
	}
	if err := yaml.Unmarshal(text, &example); err != nil {
		t.Fatal(err)
	}
	c := example.Spec.InitContainers[0]
	if s := c.SecurityContext; !s.ReadOnlyRootFilesystem || !slices.Equal(s.Capabilities.Drop, []string{"ALL"}) || !slices.Equal(s.Capabilities.Add, []string{"NET_ADMIN", "NET_RAW"}) {
		t.Errorf("the container may %+v", s)
	}
	var annotations strings.Builder
	for k, v := range example.Metadata.Annotations {
		fmt.Fprintf(&annotations, "%s=%q\n", k, v)
	}
	file := filepath.Join(t.TempDir(), "annotations")
	if err := os.WriteFile(file, []byte(annotations.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"install", "transparent-proxy", "--dry-run"}
	for _, a := range c.Args {
		args = append(args, strings.ReplaceAll(a, "/etc/podinfo/annotations", file))
	}
	out, errs, err := output(t, pod(t, "init-pod"), built(t), args...)
	if err != nil || errs != "" {
		t.Fatalf("%v: %s", err, errs)
	}
	for _, want := range []string{"--dport 5432 -j RETURN", "--dport 9001 -j RETURN", "--uid-owner 5678", "--to-ports 15053"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}
