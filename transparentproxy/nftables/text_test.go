//go:build linux

package nftables

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/planmodel"
)

var update = flag.Bool("update", false, "write the golden files")

func v4(f func(*tp.Config)) func(*tp.Config) {
	return func(c *tp.Config) { c.IPFamilyMode = tp.IPv4Only; f(c) }
}

// contractPlans are the configurations of contract transparentproxy.md Appendix A, on its host.
func contractPlans() map[string]*tp.Plan {
	ports := func(s string) tp.Ports { return must(tp.ParsePorts(s)) }
	uids := func(list ...string) (out []tp.UIDExclusion) {
		for _, s := range list {
			out = append(out, must(tp.ParseUIDExclusion(s)))
		}
		return out
	}
	out := map[string]*tp.Plan{}
	for name, set := range map[string]func(*tp.Config){
		"default":           func(*tp.Config) {},
		"dns":               func(c *tp.Config) { c.DNS.Enabled = true },
		"dns_all":           func(c *tp.Config) { c.DNS.CaptureAll = true },
		"dns_no_zones_port": v4(func(c *tp.Config) { c.DNS.Enabled, c.DNS.SkipZoneSplit, c.DNS.Port = true, true, 15054 }),
		"exclude_ports": v4(func(c *tp.Config) {
			c.Inbound.ExcludePorts, c.Outbound.ExcludePorts = ports("22,1234"), ports("443,8080")
		}),
		"exclude_ips": func(c *tp.Config) {
			c.Inbound.ExcludeIPs = must(tp.ParseIPs("10.0.0.1,192.168.0.0/24,fe80::1"))
			c.Outbound.ExcludeIPs = must(tp.ParseIPs("172.16.0.0/16,fd00::/8"))
		},
		"exclude_uids": v4(func(c *tp.Config) {
			c.Outbound.ExcludeUIDs = uids("1000", "tcp:22,3000-5000:106-108", "53:1001")
		}),
		"no_inbound": v4(func(c *tp.Config) { c.Inbound.Enabled = false }),
		"vnet": func(c *tp.Config) {
			c.DNS.Enabled = true
			for _, s := range []string{"docker0:172.17.0.0/16", "br+:172.18.0.0/16", "iface:fd01::/64"} {
				c.VNets = append(c.VNets, must(tp.ParseVNet(s)))
			}
		},
		"insert": v4(func(c *tp.Config) {
			c.Inbound.Insert, c.Outbound.Insert, c.DNS.CaptureAll = true, true, true
			c.Outbound.ExcludeIPs = must(tp.ParseIPs("10.1.0.0/16"))
		}),
		"log": v4(func(c *tp.Config) {
			c.Log, c.DNS.CaptureAll = true, true
			c.Outbound.ExcludeUIDs = uids("1000")
		}),
		"drop_invalid": v4(func(c *tp.Config) { c.DropInvalid = true }),
		"ports_user":   v4(func(c *tp.Config) { c.Inbound.Port, c.Outbound.Port = 25006, 25001 }),
		"include_ports": v4(func(c *tp.Config) {
			c.Inbound.IncludePorts, c.Outbound.IncludePorts = ports("80,8080"), ports("443,5432")
		}),
		"no_outbound": v4(func(c *tp.Config) { c.Outbound.Enabled = false }),
	} {
		cfg, host := tp.DefaultConfig(), redirectlab.Facts()
		set(&cfg)
		if name == "ports_user" {
			host.UID = 65534
		}
		out[name] = must(tp.NewPlan(cfg, host))
	}
	return out
}

// pair is two hosts: one gets plans over netlink, the other by text.
type pair struct {
	netlink, text *netlab.Host
	backend       *Backend
}

func newPair(t testing.TB, prefix string) pair {
	t.Helper()
	hosts := redirectlab.NewHosts(t, prefix, "netlink", "text")
	return pair{hosts[0], hosts[1], newBackend(t)}
}

// run runs nft on a host.
func run(t testing.TB, h *netlab.Host, input string, args ...string) (string, error) {
	t.Helper()
	cmd := h.Command(t.Context(), 0, "nft", args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("nft %v: %w: %s", args, err, out)
	}
	return string(out), nil
}

// same applies a plan in both ways and says how the tables differ, as nft lists them.
func (p pair) same(t testing.TB, plan *tp.Plan) error {
	t.Helper()
	text := Text(plan)
	if _, err := run(t, p.text, text, "-f", "-"); err != nil {
		return err
	}
	if err := p.netlink.Do(func() error { return p.backend.Apply(t.Context(), plan) }); err != nil {
		return err
	}
	want, err := run(t, p.text, "", "list", "table", "inet", tableName)
	if err != nil {
		return err
	}
	got, err := run(t, p.netlink, "", "list", "table", "inet", tableName)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(sorted(want), sorted(got)); diff != "" {
		return fmt.Errorf("the tables differ (-text +netlink):\n%s\n%s", diff, text)
	}
	// The text does all that there is to do but for the address.
	for h, missing := range map[*netlab.Host]int{p.netlink: 0, p.text: len(plan.Addresses)} {
		var d []tp.Difference
		if err := h.Do(func() (err error) { d, err = p.backend.Check(t.Context(), plan); return err }); err != nil {
			return err
		}
		if len(d) != missing {
			return fmt.Errorf("on %s: %v\n%s", h.Name, d, text)
		}
	}
	return nil
}

// sorted orders chains by name: a chain that is kept when a plan replaces another stands where it stood.
func sorted(list string) string {
	body, _ := strings.CutPrefix(list, "table inet "+tableName+" {\n")
	chains := strings.Split(strings.TrimSuffix(body, "\n}\n"), "\n\n")
	slices.Sort(chains)
	return strings.Join(chains, "\n")
}

func TestTextOfTheContractsConfigurations(t *testing.T) {
	p := newPair(t, "tp-nfttext")
	for name, plan := range contractPlans() {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".nft")
			if *update {
				if err := os.WriteFile(file, []byte(Text(plan)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), Text(plan)); diff != "" {
				t.Errorf("the text differs from %s:\n%s", file, diff)
			}
			if _, err := run(t, p.text, Text(plan), "-c", "-f", "-"); err != nil {
				t.Error(err)
			}
			if err := p.same(t, plan); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("everything", func(t *testing.T) {
		if err := p.same(t, redirectlab.NewFullPlan(t)); err != nil {
			t.Error(err)
		}
	})
}

// TestTextOfAnyPlan also has each plan replace another, which must leave nothing of it.
func TestTextOfAnyPlan(t *testing.T) {
	p := newPair(t, "tp-nftany")
	rapid.Check(t, func(rt *rapid.T) {
		if err := p.same(t, planmodel.AnyPlan(rt)); err != nil {
			rt.Fatal(err)
		}
	})
}
