//go:build linux

package planmodel_test

import (
	"flag"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/planmodel"
)

func TestMain(m *testing.M) {
	flag.Parse()
	given := map[string]bool{}
	flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
	// Each check installs a plan three times. The values with which one failed are printed.
	for name, value := range map[string]string{"rapid.checks": "30", "rapid.nofailfile": "true"} {
		if !given[name] {
			_ = flag.Set(name, value)
		}
	}
	goleak.VerifyTestMain(m)
}

// TestKernelDoesWhatThePlanSays sends random packets under random plans, and compares what the kernel makes of them with each
// backend's rules with what the model says.
func TestKernelDoesWhatThePlanSays(t *testing.T) {
	kernels := newKernels(t, "pm-agree")
	checks, packets, start := 0, 0, time.Now()
	rapid.Check(t, func(rt *rapid.T) {
		plan := planmodel.AnyPlan(rt)
		shots := rapid.SliceOfN(anyShot(plan), 100, 200).Draw(rt, "packets")
		checks++
		for _, k := range kernels {
			if err := k.apply(t.Context(), plan); err != nil {
				rt.Fatalf("%s: %v\n%s", k.name, err, plan.Text(tp.TextOptions{NoComments: true}))
			}
			wrong, sent, err := k.try(plan, shots)
			packets += sent
			if err != nil {
				rt.Fatalf("%s: %v", k.name, err)
			}
			if len(wrong) > 0 {
				rt.Fatalf("%s:\n%s%s", k.name, list(wrong), plan.Text(tp.TextOptions{NoComments: true}))
			}
		}
	})
	// Enough plans show everything that rules can do, or the values to try are badly chosen.
	for _, k := range kernels {
		for _, kind := range []string{
			"IPv4 tcp sent redirected", "IPv6 tcp sent redirected", "IPv4 tcp coming in redirected", "IPv6 tcp coming in redirected",
			"tcp sent left alone", "tcp coming in left alone", "tcp coming in dropped",
			"udp sent redirected", "udp sent in zone 1", "udp sent in zone 2", "udp coming in in zone 1", "udp sent left alone", "udp coming in left alone",
		} {
			if n := k.seen[kind] + k.seen["IPv4 "+kind] + k.seen["IPv6 "+kind]; n == 0 && checks >= 25 {
				t.Errorf("%s: no packet was %s", k.name, kind)
			}
		}
	}
	t.Logf("%d packets under %d plans in %v", packets, checks, time.Since(start).Round(time.Millisecond))
}

// list shows the first few.
func list(wrong []disagreement) string {
	var b strings.Builder
	for _, d := range wrong[:min(5, len(wrong))] {
		b.WriteString(d.String())
	}
	return b.String()
}

// TestLackOfARuleIsNoticed gives the kernel a plan without one of its rules, each in turn: the packets that show it are those
// with which the model says that it makes a difference, and no others.
func TestLackOfARuleIsNoticed(t *testing.T) {
	plan := redirectlab.NewPlan(t, func(c *tp.Config) {
		redirectlab.Exclude(t, c)
		c.DNS.Enabled, c.DropInvalid = true, true
		c.Inbound.ExcludeIPs = []netip.Prefix{netip.MustParsePrefix("198.51.100.8/30"), netip.MustParsePrefix("2001:db8::9/128")}
		c.VNets = []tp.VNet{{Interface: "docker0", Network: netip.MustParsePrefix("10.66.1.0/24")}, {Interface: "br+", Network: netip.MustParsePrefix("fd66:2::/64")}}
	})
	if err := plan.Check(); err != nil {
		t.Fatal(err)
	}
	// Answers of a resolver at a loopback address never come in.
	const unseen = "raw PREROUTING dns.response.127.0.0.11"
	rules := slices.DeleteFunc(ruleIDs(plan), func(id string) bool { return id == unseen })
	for i, k := range newKernels(t, "pm-lack") {
		t.Run(k.name, func(t *testing.T) {
			for n, id := range rules {
				if i > 0 && n%2 == i-1 { // iptables takes its time; between them the two flavours try all
					continue
				}
				lacking := without(plan, id)
				if err := k.apply(t.Context(), lacking); err != nil {
					t.Fatalf("without %s: %v", id, err)
				}
				noticed := false
				for round := 0; round < 20 && !noticed; round++ {
					wrong, _, err := k.try(plan, rapid.SliceOfN(anyShot(plan), 200, 200).Example(round))
					if err != nil {
						t.Fatal(err)
					}
					noticed = len(wrong) > 0
					for _, d := range wrong {
						if other := d.shot.expected(planmodel.Fate(lacking, d.packet)); other != d.got {
							t.Errorf("without %s the model says %+v: %v", id, other, d)
						}
					}
				}
				if !noticed {
					t.Errorf("no packet shows that %s is missing", id)
				}
			}
		})
	}
}

// ruleIDs lists the rules of a plan.
func ruleIDs(plan *tp.Plan) []string {
	var out []string
	for _, c := range tp.Diff(nil, plan) {
		if id := c.Table + " " + c.Chain + " " + c.ID; !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// without is the plan without a rule, in all families.
func without(plan *tp.Plan, id string) *tp.Plan {
	out := &tp.Plan{Addresses: plan.Addresses}
	for _, f := range plan.Families {
		tables := slices.Clone(f.Tables)
		for i := range tables {
			tables[i].Chains = slices.Clone(tables[i].Chains)
			for j := range tables[i].Chains {
				c := &tables[i].Chains[j]
				var rules []tp.Rule
				gone := 0
				for _, r := range c.Rules {
					if tables[i].Name+" "+c.Name+" "+r.ID == id {
						gone++
						continue
					}
					if r.Position > 0 {
						r.Position -= gone
					}
					rules = append(rules, r)
				}
				c.Rules = rules
			}
		}
		out.Families = append(out.Families, tp.FamilyPlan{Family: f.Family, Tables: tables})
	}
	return out
}
