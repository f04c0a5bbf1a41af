package transparentproxy

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files of the forms for people and programs")

// everything is a configuration that uses every kind of match and verdict.
func everything() Config {
	cfg := DefaultConfig()
	cfg.DNS.Enabled, cfg.DropInvalid, cfg.Log = true, true, true
	cfg.Inbound.ExcludePorts, cfg.Outbound.ExcludePorts = must(ParsePorts("22,3000-3010")), must(ParsePorts("443"))
	cfg.Inbound.ExcludeIPs, cfg.Outbound.ExcludeIPs = must(ParseIPs("10.0.0.1,fd00::/32")), must(ParseIPs("172.16.0.0/16"))
	cfg.Outbound.ExcludeUIDs = must(ParseUIDExclusions("1000;tcp:22,3000-5000:106-108"))
	cfg.VNets = []VNet{must(ParseVNet("br+:172.18.0.0/16"))}
	return cfg
}

func TestFormsOfThePlan(t *testing.T) {
	plan := must(NewPlan(everything(), contractHost()))
	asJSON, err := plan.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"everything.json": asJSON, "everything.table": plan.Table()} {
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestFormsHaveEveryRule counts: each rule is in the JSON once, and in the table but for what it resolves.
func TestFormsHaveEveryRule(t *testing.T) {
	for name, set := range map[string]func(*Config, *Host){
		"everything": func(c *Config, _ *Host) { *c = everything() },
		"default":    func(*Config, *Host) {},
		"docker":     func(c *Config, h *Host) { c.DNS.Enabled, h.Docker4 = true, true },
		"nothing":    func(c *Config, _ *Host) { c.Inbound.Enabled, c.Outbound.Enabled = false, false },
		"insert":     func(c *Config, _ *Host) { c.Inbound.Insert, c.Outbound.Insert, c.DNS.CaptureAll = true, true, true },
		"include only": func(c *Config, _ *Host) {
			c.Inbound.IncludePorts, c.Outbound.IncludePorts = Ports{{80, 80}}, Ports{{443, 443}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, host := DefaultConfig(), contractHost()
			set(&cfg, &host)
			plan := must(NewPlan(cfg, host))
			text, err := plan.JSON()
			if err != nil {
				t.Fatal(err)
			}
			var read planJSON
			if err := json.Unmarshal([]byte(text), &read); err != nil {
				t.Fatal(err)
			}
			table := plan.Table()
			for i, f := range plan.Families {
				for j, tb := range f.Tables {
					for k, c := range tb.Chains {
						for l, r := range c.Rules {
							got := read.Families[i].Tables[j].Chains[k].Rules[l]
							if got.ID != r.ID || got.Insert != r.Position || len(got.Match) < len(r.Match) || got.Verdict.Action == "" {
								t.Errorf("JSON has %+v for %+v", got, r)
							}
							resolved := c.Name == ChainInboundRedirect || c.Name == ChainOutboundRedirect
							if row := tb.Name + " " + c.Name + " " + r.ID + "\n"; !resolved && !strings.Contains(table, row) {
								t.Errorf("the table lacks %q:\n%s", row, table)
							}
						}
					}
				}
			}
			if strings.Contains(text, "null") {
				t.Error("a list is null")
			}
		})
	}
}

func TestTableFollowsThePacket(t *testing.T) {
	cfg := DefaultConfig()
	cfg.IPFamilyMode, cfg.DNS.CaptureAll, cfg.DropInvalid = IPv4Only, true, true
	cfg.Outbound.ExcludePorts = must(ParsePorts("443"))
	got := must(NewPlan(cfg, contractHost())).Table()
	at := 0
	for _, want := range []string{
		"IPv4: traffic that arrives", "raw PREROUTING dns.response.all", "mangle PREROUTING invalid", "nat PREROUTING inbound", "nat KUMA_MESH_INBOUND all",
		"IPv4: traffic that this host sends", "raw OUTPUT dns.dp.query", "nat OUTPUT dns.dp", "goes to port 15053 (kuma-dp, DNS)", "rules of others in nat OUTPUT",
		"is looked at in the steps below", "TCP, to port 443", "is left alone", "goes to port 15001 (Envoy, outbound)",
	} {
		i := strings.Index(got[at:], want)
		if i < 0 {
			t.Fatalf("no %q after the step before in\n%s", want, got)
		}
		at += i
	}
}
