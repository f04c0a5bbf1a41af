//go:build linux

package redirection

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/kuma-dp/kuma-dp/internal/command"
	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
)

// notRootEnv makes TestInstallRefusesWithoutRoot run the command instead of itself.
const notRootEnv = "REDIRECTION_TEST_NOT_ROOT"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func proxyHost(t *testing.T, prefix string) *netlab.Host {
	t.Helper()
	return redirectlab.NewHosts(t, prefix, "mesh")[0]
}

// execute runs a command line as programs do.
func execute(words []string, env map[string]string, stdin string, out, errs io.Writer) int {
	s := command.Streams{In: strings.NewReader(stdin), Out: out, Err: errs}
	p := Process{Streams: s, LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
	root := command.Root("prog", "", "", command.Root("install", "", "", NewInstall(p)), command.Root("uninstall", "", "", NewUninstall(p)))
	return command.Execute(root, words, s, func(error) int { return command.ExitStart })
}

// runOn runs a command line in the host's namespace.
func runOn(t *testing.T, h *netlab.Host, line string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	if err := h.Do(func() error {
		code = execute(strings.Fields(line), nil, "", &out, &errs)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return code, out.String(), errs.String()
}

func rulesOf(t *testing.T, h *netlab.Host) string {
	t.Helper()
	out, err := h.Command(context.WithoutCancel(t.Context()), 0, "sh", "-c",
		"for f in nft legacy; do iptables-$f-save; ip6tables-$f-save; done 2>/dev/null | grep -v '^#'; nft list ruleset; ip -o addr show dev lo; cat /proc/net/ip_tables_names").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}

func TestInstallTransparentProxy(t *testing.T) {
	h := proxyHost(t, "tpi-install")
	before := rulesOf(t, h)
	const flags = "install transparent-proxy --kuma-dp-user 65534 --redirect-all-dns-traffic --exclude-inbound-ports 22,3000-3010 --exclude-outbound-ports 443 --exclude-outbound-ports 8443"
	l, err := h.Listen("tcp", "0.0.0.0:15001")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	code, out, errs := runOn(t, h, flags+" --dry-run")
	for _, want := range []string{
		"### IPv4 ###", "### IPv6 ###", "--uid-owner 65534", "--dport 3000:3010 -j RETURN", "-p tcp --dport 443 -j RETURN", "-p tcp --dport 8443 -j RETURN", "-I OUTPUT 2",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("dry run lacks %q (exit %d, %s):\n%s", want, code, errs, out)
		}
	}
	if after := rulesOf(t, h); after != before {
		t.Errorf("the dry run changed the host:\n%s", after)
	}
	for range 2 {
		if code, out, errs = runOn(t, h, flags); code != 0 || errs != "" || !strings.Contains(out, "set up successfully") {
			t.Fatalf("install: exit %d, %q, %q", code, out, errs)
		}
	}
	// A destination that nobody has: only redirection makes this a connection.
	c, err := h.DialAs(t.Context(), 1000, "tcp", "10.77.0.99:9000")
	if err != nil {
		t.Fatalf("not redirected: %v", err)
	}
	defer c.Close()
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	if got := netip.MustParseAddrPort(peer.RemoteAddr().String()); got.Port() != uint16(c.LocalAddr().(*net.TCPAddr).Port) {
		t.Errorf("another connection arrived: %v", got)
	}
	code, out, errs = runOn(t, h, "uninstall transparent-proxy --dry-run")
	if code != 0 || out != "remove nftables kuma_mesh\n" {
		t.Errorf("uninstall --dry-run: exit %d, %q, %q", code, out, errs)
	}
	if code, out, errs = runOn(t, h, "uninstall transparent-proxy"); code != 0 || errs != "" || !strings.Contains(out, "cleaned up") {
		t.Errorf("uninstall: exit %d, %q, %q", code, out, errs)
	}
	if after := rulesOf(t, h); after != before {
		t.Errorf("the host is not as before:\n%s", after)
	}
	if code, out, _ = runOn(t, h, "uninstall transparent-proxy"); code != 0 || !strings.Contains(out, "no transparent proxy rules") {
		t.Errorf("uninstall of nothing: exit %d, %q", code, out)
	}
}

func TestInstallRefusesWrongInput(t *testing.T) {
	h := proxyHost(t, "tpi-wrong")
	before := rulesOf(t, h)
	for _, tc := range []struct{ name, flags, want string }{
		{"unknown user", "--kuma-dp-user nosuch", "the specified UID or username ('nosuch') does not refer to a valid user on the host"},
		{"unknown uid", "--kuma-dp-user 4000000000", "('4000000000') does not refer to a valid user"},
		{"port zero", "--exclude-inbound-ports 22,0", `invalid argument "22,0" for "--exclude-inbound-ports" flag: value '0' is not a valid port (uint16 in the range [1, 65535])`},
		{"port too high", "--redirect-outbound-port 65536", "value '65536' is not a valid port"},
		{"not one port", "--redirect-inbound-port 1-2", "value '1-2' is not one port"},
		{"same ports", "--kuma-dp-user 65534 --redirect-inbound-port 15001", "two different ports"},
		{"mode", "--ip-family-mode ipv6", "must be one of 'dualstack' or 'ipv4'"},
		{"both dns flags", "--redirect-dns --redirect-all-dns-traffic", "only one of '--redirect-dns' or '--redirect-all-dns-traffic' should be specified"},
		{"address", "--exclude-inbound-ips foo", "invalid IP address: 'foo'. Expected format: <ip> or <ip>/<cidr>"},
		{"uids", "--exclude-outbound-ports-for-uids *", "invalid UID '*'"},
		{"in and out", "--include-inbound-ports 80 --exclude-inbound-ports 80", "port 80 is in includePorts and in excludePorts"},
		{"unknown key", `--config {"redirects":{}}`, "read settings of --config: line 1: redirects: unknown key; known here: dryRun,"},
		{"no such file", "--config-file /nowhere/config.yaml", "read settings: open /nowhere/config.yaml: no such file or directory"},
		{"firewalld", "--store-firewalld", "not supported"},
		{"form", "--dry-run --output xml", `unknown output format "xml", use one of iptables|json|nft|table`},
		{"form of nothing", "--output json", "--output is of --dry-run"},
		{"vnet", "--vnet foo", "invalid virtual network definition: foo"},
		{"unknown flag", "--nope", "unknown flag: --nope"},
		{"argument", "now", "now"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, _, errs := runOn(t, h, "install transparent-proxy "+tc.flags)
			if code == 0 || !strings.Contains(errs, tc.want) || strings.Count(errs, "\n") != 1 {
				t.Errorf("exit %d, %q, want one line with %q", code, errs, tc.want)
			}
		})
	}
	if after := rulesOf(t, h); after != before {
		t.Errorf("something was installed:\n%s", after)
	}
}

// TestInstallFlags looks at what each remaining flag does to the rules.
func TestInstallFlags(t *testing.T) {
	h := proxyHost(t, "tpi-flags")
	for _, tc := range []struct{ name, flags, has, hasNot string }{
		{"ipv4", "--ip-family-mode ipv4", "### IPv4 ###", "### IPv6 ###"},
		{"ports", "--redirect-inbound-port 25006 --redirect-outbound-port 25001 --redirect-all-dns-traffic --redirect-dns-port 15054", "--to-ports 15054", "15006"},
		{"no inbound", "--redirect-inbound=false", "-p tcp -j RETURN", "-A KUMA_MESH_INBOUND -p tcp -j KUMA_MESH_INBOUND_REDIRECT"},
		{"zones", "--redirect-all-dns-traffic", "-j CT --zone 2", "\x00"},
		{"no zones", "--redirect-all-dns-traffic --skip-dns-conntrack-zone-split", "--to-ports 15053", "* raw"},
		{"vnet", "--ip-family-mode ipv4 --vnet docker0:172.17.0.0/16 --vnet br+:172.18.0.0/16", "-i br+ -p tcp -j REDIRECT", "-A PREROUTING"},
		{"uids", "--exclude-outbound-ports-for-uids tcp:22,3000-5000:106-108", "--dport 22,3000:5000 -m owner --uid-owner 106:108 -j RETURN", "\x00"},
		{"ips", "--exclude-inbound-ips 10.0.0.1,fe80::1 --exclude-outbound-ips 172.16.0.0/16", "-d 172.16.0.0/16 -j RETURN", "\x00"},
		{"insert", "--redirect-inbound-insert-instead-of-append --redirect-outbound-insert-instead-of-append", "-I OUTPUT 1", "-A OUTPUT"},
		{"invalid", "--drop-invalid-packets", "* mangle", "\x00"},
		{"logs", "--iptables-logs", "-j LOG --log-prefix PREROUTING: --log-level 7", "\x00"},
		{"verbose", "--verbose", "--new-chain KUMA_MESH_INBOUND", "-N "},
		{"user by name", "--kuma-dp-user nobody", "--uid-owner 65534", "\x00"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, out, errs := runOn(t, h, "install transparent-proxy --dry-run --kuma-dp-user 65534 --wait 1 "+tc.flags)
			if code != 0 || !strings.Contains(out, tc.has) || strings.Contains(out, tc.hasNot) {
				t.Errorf("exit %d, %q, want %q and not %q in\n%s", code, errs, tc.has, tc.hasNot, out)
			}
		})
	}
}

func TestInstallRefusesWithoutRoot(t *testing.T) {
	if os.Getenv(notRootEnv) != "" {
		os.Exit(execute([]string{"install", "transparent-proxy"}, nil, "", os.Stdout, os.Stderr))
	}
	netlab.RequireRoot(t)
	// A user namespace without a map makes the process nobody, yet it can still read the test's binary.
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInstallRefusesWithoutRoot$")
	cmd.Env = append(os.Environ(), notRootEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "you need to have root privileges to run this command") {
		t.Errorf("got %v, %s", err, out)
	}
}
