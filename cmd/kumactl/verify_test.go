//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	"github.com/kuma-dp/kuma-dp/transparentproxy/verify"
)

func TestVerifyCommand(t *testing.T) {
	h := proxyHost(t, "kctl-verify")
	expect := func(line string, want int, texts ...string) string {
		t.Helper()
		code, out, errs := kumactlOn(t, h, line)
		for _, text := range texts {
			if !strings.Contains(out+errs, text) {
				t.Errorf("%s: lacks %q: %q, %q", line, text, out, errs)
			}
		}
		if code != want {
			t.Errorf("%s: exit %d, want %d: %q, %q", line, code, want, out, errs)
		}
		return out
	}
	expect("transparent-proxy verify", exitNotSure, "Error: nothing is installed here: run 'kumactl install transparent-proxy'")
	// With flags it says what is missing.
	expect("transparent-proxy verify --kuma-dp-user 65534", exitBroken, "no rule redirects it", "What to do:\noutbound.ipv4: ")
	expect(installFlags, exitOK)
	expect("transparent-proxy verify", exitOK, "holds", "outbound.ipv6", "inbound.exclude.port.22.ipv4", " 0 broken, 0 unknown\n")
	var report verify.Report
	if err := json.Unmarshal([]byte(expect("transparent-proxy verify -o json", exitOK)), &report); err != nil {
		t.Fatal(err)
	}
	if report.Result != verify.Holds || len(report.Checks) < 20 {
		t.Errorf("got %+v", report)
	}
	hostShell(t, h, "nft flush chain inet kuma_mesh KUMA_MESH_INBOUND")
	expect("transparent-proxy verify", exitBroken, "inbound.ipv4", "2 broken, 0 unknown")
	for line, want := range map[string]string{
		"transparent-proxy verify -o yaml":     `output format "yaml" is none of table, json`,
		"transparent-proxy verify --timeout 0": "--timeout must be positive",
		"transparent-proxy verify now":         "want none",
	} {
		if code, _, errs := kumactlOn(t, h, line); code == exitOK || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit %d, %q", line, code, errs)
		}
	}
	expect("uninstall transparent-proxy", exitOK, "cleaned up")
}

// TestVerifyWithoutPrivileges takes capabilities away.
func TestVerifyWithoutPrivileges(t *testing.T) {
	h := proxyHost(t, "kctl-vpriv")
	bin := buildKumactl(t)
	if code, _, errs := kumactlOn(t, h, installFlags); code != exitOK {
		t.Fatal(errs)
	}
	for _, tc := range []struct {
		name, drop string
		unknown    []string // beginnings of ids
		says       string
	}{
		{"CAP_NET_ADMIN", "-net_admin", nil, "lacks CAP_NET_ADMIN"},
		{"CAP_SYS_ADMIN", "-sys_admin", []string{"inbound."}, "lacks CAP_SYS_ADMIN"},
		{
			"CAP_SETUID", "-setuid",
			[]string{"outbound.proxy.", "loopback.proxy.", "loopback.passthrough.", "dns.udp.", "dns.proxy.", "dns.zones."},
			"lacks CAP_SETUID",
		},
		{
			"all that an init container lacks", "-all,+net_admin,+net_raw",
			[]string{"inbound.", "outbound.proxy.", "loopback.proxy.", "loopback.passthrough.", "dns.udp.", "dns.proxy.", "dns.zones."},
			"lacks CAP_SETUID",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd := h.Command(t.Context(), 0, "setpriv", "--bounding-set", tc.drop, "--inh-caps", "-all", bin, "transparent-proxy", "verify", "-o", "json")
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			_ = cmd.Run() // the code says it
			if code := cmd.ProcessState.ExitCode(); code != exitNotSure {
				t.Errorf("exit %d, want %d", code, exitNotSure)
			}
			if said := out.String() + errs.String(); !strings.Contains(said, tc.says) {
				t.Errorf("does not say %q: %s", tc.says, said)
			}
			if tc.unknown == nil {
				return
			}
			var report verify.Report
			if err := json.Unmarshal(out.Bytes(), &report); err != nil {
				t.Fatal(err)
			}
			tried := map[string]bool{}
			for _, c := range report.Checks {
				want := verify.Holds
				for _, u := range tc.unknown {
					if strings.HasPrefix(c.ID, u) {
						want, tried[u] = verify.Unknown, true
					}
				}
				if c.Result != want {
					t.Errorf("%s is %s, want %s: %s", c.ID, c.Result, want, c.Seen)
				}
			}
			if len(tried) != len(tc.unknown) {
				t.Errorf("only %v are checked", tried)
			}
		})
	}
}

// TestVerifyLeavesNoLink kills it while its link is there.
func TestVerifyLeavesNoLink(t *testing.T) {
	h := proxyHost(t, "kctl-vkill")
	bin := buildKumactl(t)
	if code, _, errs := kumactlOn(t, h, installFlags); code != exitOK {
		t.Fatal(errs)
	}
	redirectlab.NewServers(t).UDP(h, 65534, "127.0.0.1:15053", "mesh dns") // so that it waits for an answer by IPv6
	before := rulesOf(t, h)
	cmd := h.Command(t.Context(), 0, bin, "transparent-proxy", "verify")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitLink(t, h, true)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	awaitLink(t, h, false)
	if after := rulesOf(t, h); after != before {
		t.Errorf("the host is not as before:\n%s", after)
	}
}

// awaitLink waits until the link to the outside is there, or is not.
func awaitLink(t *testing.T, h *netlab.Host, there bool) {
	t.Helper()
	for late := time.Now().Add(patience); ; { // the kernel takes it away when it gets to it, and tells nobody in this namespace
		found := false
		if err := h.Do(func() error {
			links, err := net.Interfaces()
			for _, l := range links {
				found = found || strings.HasPrefix(l.Name, "kumav")
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if found == there {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("after %s the link is there: %t", patience, found)
		}
	}
}
