//go:build linux

package redirection

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
)

// TestDryRunChangesNothing compares all that a dry run could change on a fresh host, one with rules of others in both
// flavours, and one where redirection is installed.
func TestDryRunChangesNothing(t *testing.T) {
	const legacyTables = "cat /proc/thread-self/net/ip_tables_names /proc/thread-self/net/ip6_tables_names"
	for name, setup := range map[string]string{
		"fresh":             "true",
		"others":            "iptables-nft -t nat -A OUTPUT -p icmp -j ACCEPT; iptables-legacy -t filter -A INPUT -p icmp -j ACCEPT",
		"ours":              "",
		"ours, of iptables": "",
	} {
		t.Run(name, func(t *testing.T) {
			h := proxyHost(t, "tpi-dry")
			if setup == "" {
				backend := "nftables"
				if strings.HasSuffix(name, "iptables") {
					backend = "iptables"
				}
				if code, _, errs := runOn(t, h, "install transparent-proxy --kuma-dp-user 65534 --backend "+backend); code != 0 {
					t.Fatal(errs)
				}
				defer runOn(t, h, "uninstall transparent-proxy") // the journal would outlive the host
			} else {
				redirectlab.Shell(t, h, "", setup)
			}
			tables := redirectlab.Shell(t, h, "", legacyTables)
			before := redirectlab.Snapshot(t, h)
			for _, flags := range []string{
				"", "--verbose", "-o iptables", "-o nft", "--backend nftables", "--backend iptables-legacy", "-o json", "-o table", "--cni-mode", "--disable-comments", "--drop-invalid-packets --iptables-logs",
				"--iptables-executables iptables:/usr/sbin/iptables-legacy,iptables-save:/usr/sbin/iptables-legacy-save,iptables-restore:/usr/sbin/iptables-legacy-restore",
			} {
				code, out, errs := runOn(t, h, "install transparent-proxy --dry-run --redirect-all-dns-traffic --kuma-dp-user 65534 "+flags)
				if code != 0 || out == "" {
					t.Errorf("%s: exit %d, %q", flags, code, errs)
				}
			}
			if code, _, errs := runOn(t, h, "uninstall transparent-proxy --dry-run"); code != 0 {
				t.Errorf("uninstall: exit %d, %q", code, errs)
			}
			if got := redirectlab.Shell(t, h, "", legacyTables); got != tables {
				t.Errorf("legacy tables were %q and are %q", tables, got)
			}
			if diff := cmp.Diff(before, redirectlab.Snapshot(t, h)); diff != "" {
				t.Errorf("the host is not as before:\n%s", diff)
			}
		})
	}
}

func TestForms(t *testing.T) {
	h := proxyHost(t, "tpi-forms")
	const dry = "install transparent-proxy --dry-run --redirect-all-dns-traffic --kuma-dp-user 65534 "
	_, text, _ := runOn(t, h, dry)
	if _, same, _ := runOn(t, h, dry+"--output iptables"); same != text || !strings.HasPrefix(text, "### IPv4 ###\n\n* raw\n") {
		t.Errorf("iptables is not the default, or not Kuma's text:\n%s", text)
	}
	code, out, errs := runOn(t, h, dry+"--output json")
	var plan struct {
		Families []struct {
			Family string
			Tables []struct {
				Table  string
				Chains []struct{ Rules []struct{ ID string } }
			}
		}
		Addresses []string
	}
	if err := json.Unmarshal([]byte(out), &plan); err != nil || code != 0 || errs != "" {
		t.Fatalf("exit %d, %q: %v in\n%s", code, errs, err, out)
	}
	if len(plan.Families) != 2 || plan.Families[1].Family != "IPv6" || plan.Families[0].Tables[0].Chains[0].Rules[0].ID != "dns.response.all" || plan.Addresses[0] != "::6/128" {
		t.Errorf("got %+v", plan)
	}
	if _, out, _ = runOn(t, h, dry+"-o nft"); !strings.HasPrefix(out, "add table inet kuma_mesh\n") {
		t.Errorf("got\n%s", out)
	}
	if _, out, _ = runOn(t, h, dry+"-o table"); !strings.Contains(out, "\nIPv6: traffic that this host sends\nSTEP  TRAFFIC") {
		t.Errorf("got\n%s", out)
	}
}

// TestSettingsArrive has one setting of each source, through the whole command.
func TestSettingsArrive(t *testing.T) {
	h := proxyHost(t, "tpi-src")
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := file("config.yaml", "redirect:\n  inbound:\n    excludePorts: [22]\n  outbound:\n    port: 25001\n")
	pod := file("annotations", "traffic.kuma.io/exclude-outbound-ports=\"443\"\nkuma.io/application-probe-proxy-port=\"0\"\n")
	words := strings.Fields("install transparent-proxy --dry-run --kuma-dp-user 65534 --redirect-inbound-port 25006 --config - --annotations-file " + pod)
	env := map[string]string{"KUMA_TRANSPARENT_PROXY_REDIRECT_DNS_CAPTURE_ALL": "true", "KUMA_TRANSPARENT_PROXY_REDIRECT_INBOUND_PORT": "1"}
	var out, errs bytes.Buffer
	code := 0
	run := func(words []string, stdin string) {
		t.Helper()
		out.Reset()
		errs.Reset()
		if err := h.Do(func() error { code = execute(words, env, stdin, &out, &errs); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	run(words, string(text))
	for _, want := range []string{
		"KUMA_MESH_INBOUND -m comment", "--dport 22 -j RETURN", "--to-ports 25001", "--dport 443 -j RETURN", "--to-ports 15053", "--to-ports 25006",
	} {
		if code != 0 || !strings.Contains(out.String(), want) {
			t.Errorf("exit %d, %q, want %q in\n%s", code, &errs, want, &out)
		}
	}
	// 2.9 ignores what it does not know; here it is an error, with the place.
	run(append(words[:len(words):len(words)], "--config", file("bad.yaml", "verbose: true\nredirect:\n  inbound:\n    ports: 1\n")), "")
	if code != 1 || errs.String() != "Error: read settings of "+dir+"/bad.yaml: line 4: redirect.inbound.ports: unknown key; known here: enabled, port, includePorts, excludePorts, "+
		"excludePortsForIPs, excludePortsForUIDs, insertRedirectInsteadOfAppend\n" {
		t.Errorf("exit %d, %q", code, &errs)
	}
	// What has no effect is said in one line.
	run(strings.Fields("install transparent-proxy --dry-run --kuma-dp-user 65534 --ebpf-enabled --ebpf-instance-ip 10.77.0.2"), "")
	if code != 0 || strings.Count(errs.String(), "\n") != 1 || !strings.Contains(errs.String(), "eBPF is not used") {
		t.Errorf("exit %d, %q", code, &errs)
	}
	env["KUMA_TRANSPARENT_PROXY_STORE_FIREWALLD"] = "true"
	run(strings.Fields("uninstall transparent-proxy"), "")
	if code != 0 || errs.Len() > 0 {
		t.Errorf("uninstall: exit %d, %q", code, &errs)
	}
}

// TestInstallWithOptionsOfIptables installs for real with what the backend needs to know.
func TestInstallWithOptionsOfIptables(t *testing.T) {
	h := proxyHost(t, "tpi-opts")
	before := redirectlab.Snapshot(t, h)
	const legacy = "iptables:/usr/sbin/iptables-legacy,iptables-save:/usr/sbin/iptables-legacy-save,iptables-restore:/usr/sbin/iptables-legacy-restore," +
		"ip6tables:/usr/sbin/ip6tables-legacy,ip6tables-save:/usr/sbin/ip6tables-legacy-save,ip6tables-restore:/usr/sbin/ip6tables-legacy-restore"
	for _, tc := range []struct{ flags, where, errs string }{
		{"--disable-comments --max-retries 0 --wait 0 --backend iptables", "nft", ""},
		{`--wait 1 --wait-interval 1000 --max-retries 1 --sleep-between-retries "500ms" --iptables-executables ` + legacy, "legacy", "redirection of another backend removed"},
	} {
		code, _, errs := runOn(t, h, "install transparent-proxy --kuma-dp-user 65534 --redirect-all-dns-traffic "+tc.flags)
		if code != 0 || !strings.Contains(errs, tc.errs) || tc.errs == "" && errs != "" || strings.Count(errs, "\n") > 1 {
			t.Errorf("%s: exit %d, %q", tc.flags, code, errs)
		}
		rules := redirectlab.Shell(t, h, "", "iptables-"+tc.where+"-save")
		if !strings.Contains(rules, "-j KUMA_MESH_OUTBOUND\n") || strings.Contains(tc.flags, "comments") && strings.Contains(rules, "--comment") {
			t.Errorf("%s: got\n%s", tc.flags, rules)
		}
	}
	if code, _, errs := runOn(t, h, "uninstall transparent-proxy"); code != 0 || errs != "" {
		t.Errorf("uninstall: exit %d, %q", code, errs)
	}
	// Legacy tables cannot be removed again.
	redirectlab.Shell(t, h, "", "iptables-legacy-save; ip6tables-legacy-save")
	if left := redirectlab.Shell(t, h, "", "for f in nft legacy; do iptables-$f-save; ip6tables-$f-save; done 2>/dev/null"); strings.Contains(left, "-A ") || strings.Contains(left, "KUMA") {
		t.Errorf("left:\n%s\nbefore:\n%s", left, before)
	}
}
