//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/internal/command"
	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/internal/realenvoy"
	"github.com/kuma-dp/kuma-dp/internal/transcript"
)

// sidecarHost is a host with a control plane and what a kuma-dp of the user nobody needs.
type sidecarHost struct {
	*netlab.Host
	cp            *controlPlane
	dir, bin, tmp string
}

func newSidecarHost(t *testing.T, prefix string) *sidecarHost {
	t.Helper()
	netlab.RequireRoot(t)
	lab, err := netlab.New(prefix)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Error(err)
		}
	})
	h := &sidecarHost{cp: &controlPlane{admin: "127.0.0.1:9901"}}
	h.cp.tproxy.Store(true)
	if h.Host, err = lab.AddHost("mesh", netlab.IPv6()); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	if err := h.Do(func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:0"); return err }); err != nil {
		t.Fatal(err)
	}
	h.cp.serve(t, l)
	// A place that the user nobody can read, and a binary under the name by which testscript.Main knows what to run.
	if h.dir, err = os.MkdirTemp("", "kuma-dp-test"); err != nil { //nolint:usetesting // that of a test can be read by nobody else
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(h.dir) })
	h.bin = filepath.Join(h.dir, "kuma-dp")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{self: h.bin, realenvoy.ForTest(t): filepath.Join(h.dir, "envoy")} {
		if out, err := exec.Command("cp", from, to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	h.tmp = filepath.Join(h.dir, "tmp")
	if err := errors.Join(os.Chmod(h.dir, 0o755), os.Mkdir(h.tmp, 0o700), os.Chown(h.tmp, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(h.dir, "tproxy.yaml"), []byte(tproxyConfig), 0o644); err != nil {
		t.Fatal(err)
	}
	return h
}

const tproxyConfig = `kumaDPUser: "65534"
redirect:
  inbound: {excludePorts: [22, "8000-8010"]}
  outbound: {excludePortsForUIDs: ["tcp:443:100000"]}
  dns: {captureAll: true}
`

// begin runs kuma-dp: as root, or as nobody, with capabilities or without. /run is its own, with the directory that systemd
// would make, or for a stranger one of root.
func (h *sidecarHost) begin(t *testing.T, as string, flags ...string) *process {
	t.Helper()
	const drop = "setpriv --reuid 65534 --regid 65534 --clear-groups "
	become, owner := map[string]string{
		"root": "", "nobody": drop + "--",
		"privilege": drop + "--inh-caps +net_admin,+net_raw --ambient-caps +net_admin,+net_raw --",
	}[as], "65534"
	if as == "stranger" { // to the directory
		become, owner = drop+"--inh-caps +net_admin,+net_raw --ambient-caps +net_admin,+net_raw --", "0"
	}
	script := `mount -t tmpfs tmpfs /run; install -d -o ` + owner + ` -m 0700 /run/kuma-tproxy; exec ` + become + ` "$@"`
	args := append([]string{
		"-ec", script, "sh", h.bin, "run", "--cp-address", h.cp.server.URL, "--mesh=default", "--name=demo", "--concurrency=1",
		"--drain-time", drainTime.String(), "--binary-path", filepath.Join(h.dir, "envoy"), "--envoy-log-level=warning",
	}, flags...)
	p := &process{t: t, log: transcript.New(), ended: make(chan struct{})}
	p.cmd = h.Command(context.WithoutCancel(t.Context()), 0, "sh", args...)
	p.cmd.Env = append(os.Environ(), "TMPDIR="+h.tmp, "KUMA_READINESS_PORT=0")
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // the code says it
		p.code = p.cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // most tests have ended it
		<-p.ended
		if t.Failed() {
			t.Logf("log of kuma-dp:\n%s", p.log)
		}
	})
	return p
}

func (h *sidecarHost) shell(t *testing.T, script string) string {
	t.Helper()
	out, err := h.Command(context.WithoutCancel(t.Context()), 0, "sh", "-ec", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
	return string(out)
}

// rules are everything that redirection changes.
func (h *sidecarHost) rules(t *testing.T) string {
	t.Helper()
	return h.shell(t, "nft list ruleset; ip -6 addr show dev lo; iptables-legacy-save")
}

func end(p *process) {
	p.t.Helper()
	p.signal(syscall.SIGTERM)
	p.log.Await(p.t, "waiting for connections to be drained")
	p.signal(syscall.SIGTERM)
	p.exit(0)
}

func TestTransparentProxyLivesAsLongAsTheProxy(t *testing.T) {
	h := newSidecarHost(t, "kdp-tproxy")
	before := h.rules(t)
	p := h.begin(t, "privilege", "--transparent-proxy-config", filepath.Join(h.dir, "tproxy.yaml"))
	p.log.Await(t, "proxy is ready")
	if log := p.log.String(); strings.Index(log, "traffic of this host is redirected") > strings.Index(log, "envoy started") {
		t.Error("Envoy was started before redirection was in place")
	}
	const table = "nft list table inet kuma_mesh"
	saved := h.shell(t, table)
	for _, want := range []string{"tcp dport { 22, 8000-8010 } return", "meta skuid 65534", "tcp dport 443 meta skuid 100000 return", "redirect to :15053", "redirect to :15001"} {
		if !strings.Contains(saved, want) {
			t.Errorf("the rules lack %q:\n%s", want, saved)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.envoy()))
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []string{"CapEff", "CapPrm", "CapAmb"} {
		if !strings.Contains(string(status), set+":\t0000000000000000\n") {
			t.Errorf("Envoy has capabilities:\n%s", status)
		}
	}
	if !strings.Contains(string(status), "Uid:\t65534\t65534") {
		t.Errorf("Envoy runs as another user:\n%s", status)
	}
	t.Run("an application is answered by the resolver of kuma-dp", func(t *testing.T) {
		c, err := h.DialAs(t.Context(), 1000, "udp", "10.77.0.99:53") // nobody is there
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		query := "\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01x\x04mesh\x00\x00\x01\x00\x01"
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, query); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 512)
		if n, err := c.Read(answer); err != nil || n < 12 || answer[1] != 7 {
			t.Errorf("%q, %v", answer[:n], err)
		}
	})
	t.Run("others change rules", func(t *testing.T) {
		h.shell(t, "nft flush ruleset")
		p.log.Await(t, `msg="redirection repaired"`)
		if got := h.shell(t, table); got != saved {
			t.Errorf("repaired to another state (-want +got):\n%s", cmp.Diff(saved, got))
		}
	})
	end(p)
	p.log.Await(t, "traffic of this host is no longer redirected")
	if strings.Index(p.log.String(), "envoy stopped") > strings.Index(p.log.String(), "no longer redirected") {
		t.Error("redirection ended before Envoy")
	}
	if after := h.rules(t); after != before {
		t.Errorf("left:\n%s", after)
	}
}

func TestTransparentProxyByIptables(t *testing.T) {
	h := newSidecarHost(t, "kdp-iptables")
	before := h.rules(t)
	p := h.begin(t, "privilege", "--transparent-proxy-config", filepath.Join(h.dir, "tproxy.yaml"), "--backend=iptables-nft")
	p.log.Await(t, "proxy is ready")
	if saved := h.shell(t, "iptables-nft-save; ip6tables-nft-save"); strings.Count(saved, "--dport 8000:8010 -j RETURN") != 2 {
		t.Errorf("got\n%s", saved)
	}
	end(p)
	if after := h.rules(t); after != before {
		t.Errorf("left:\n%s", after)
	}
}

// TestTransparentProxyWithoutItsDirectory has nobody made a place for the record.
func TestTransparentProxyWithoutItsDirectory(t *testing.T) {
	h := newSidecarHost(t, "kdp-nodir")
	before := h.rules(t)
	p := h.begin(t, "stranger", "--transparent-proxy-config", filepath.Join(h.dir, "tproxy.yaml"))
	p.log.Await(t, "proxy is ready")
	p.log.Await(t, "kumactl does not know of this redirection")
	h.shell(t, "nft flush ruleset")
	p.log.Await(t, `msg="redirection repaired"`)
	end(p)
	if after := h.rules(t); after != before {
		t.Errorf("left:\n%s", after)
	}
}

func TestTransparentProxyAfterACrash(t *testing.T) {
	h := newSidecarHost(t, "kdp-crash")
	config := filepath.Join(h.dir, "tproxy.yaml")
	p := h.begin(t, "privilege", "--transparent-proxy-config", config)
	p.log.Await(t, "proxy is ready")
	p.signal(syscall.SIGKILL)
	p.exit(-1)
	if !strings.Contains(h.rules(t), "KUMA_MESH") {
		t.Fatal("nothing is left, so this shows nothing")
	}
	h.shell(t, "ip addr del ::6/128 dev lo") // its record is gone with its /run
	again := h.begin(t, "privilege", "--transparent-proxy-config", config)
	again.log.Await(t, "proxy is ready")
	end(again)
	if left := h.rules(t); strings.Contains(left, "kuma_mesh") || strings.Contains(left, "::6/128") {
		t.Errorf("left:\n%s", left)
	}
}

func TestUninstallWhileTheProxyRuns(t *testing.T) {
	h := newSidecarHost(t, "kdp-uninst")
	p := h.begin(t, "privilege", "--transparent-proxy-config", filepath.Join(h.dir, "tproxy.yaml"))
	p.log.Await(t, "proxy is ready")
	// kumactl of the same /run says so in the record before it removes rules.
	h.shell(t, fmt.Sprintf("nsenter -t %d -m sh -ec 'rm -r /run/kuma-tproxy/*; nft flush ruleset'", p.cmd.Process.Pid))
	p.log.Await(t, "redirection was uninstalled by somebody")
	if strings.Contains(h.rules(t), "KUMA_MESH") {
		t.Error("it was put back")
	}
	end(p)
}

func TestTransparentProxyRefuses(t *testing.T) {
	h := newSidecarHost(t, "kdp-refuse")
	config := filepath.Join(h.dir, "tproxy.yaml")
	write := func(name, text string) string {
		path := filepath.Join(h.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct {
		name, as string
		flags    []string
		want     string
	}{
		{"root", "root", []string{"--transparent-proxy-config", config}, "kuma-dp and Envoy would run as uid 0, but redirection leaves only the traffic of uid 65534 alone"},
		{"no capabilities", "nobody", []string{"--transparent-proxy-config", config}, "this process lacks CAP_NET_ADMIN and CAP_NET_RAW"},
		{"nobody to leave alone", "privilege", []string{"--transparent-proxy"}, "user with the default UID ('5678') or username ('kuma-dp') could not be found"},
		{"DNS elsewhere", "privilege", []string{"--transparent-proxy-config", config, "--dns-proxy-port=5353"}, "redirected to port 15053, where this kuma-dp does not answer"},
		{"unknown key", "privilege", []string{"--transparent-proxy-config", write("wrong", "redirect: {inbound: {ports: 1}}")}, "wrong: "},
		{"dry run", "privilege", []string{"--transparent-proxy-config", write("dry", "dryRun: true")}, "dryRun is of 'kumactl install transparent-proxy"},
		{"unknown backend", "privilege", []string{"--transparent-proxy-config", config, "--backend=ebpf"}, `unknown backend "ebpf": choose one of auto, `},
		{"wrong port", "privilege", []string{"--transparent-proxy-config", write("port", "redirect: {inbound: {excludePorts: '22,0'}}")}, "value '0' is not a valid port"},
		{"no file", "privilege", []string{"--transparent-proxy-config", "/nowhere"}, "open /nowhere: no such file or directory"},
		{"standard input twice", "privilege", []string{"--transparent-proxy-config=-", "--dataplane-file=-"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := h.begin(t, tc.as, tc.flags...)
			p.exit(command.ExitStart)
			if !strings.Contains(p.log.String(), tc.want) {
				t.Errorf("want %q", tc.want)
			}
		})
	}
	t.Run("the control plane knows of no transparent proxy", func(t *testing.T) {
		h.cp.tproxy.Store(false)
		p := h.begin(t, "privilege", "--transparent-proxy-config", config)
		p.exit(command.ExitStart)
		p.log.Await(t, "add networking.transparentProxying with redirectPortInbound and redirectPortOutbound to the Dataplane")
	})
	if left := h.rules(t); strings.Contains(left, "KUMA_MESH") {
		t.Errorf("left:\n%s", left)
	}
}
