//go:build linux

package verify_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/verify"
)

// TestEverythingHolds verifies what each backend makes of each way to redirect DNS, before anybody listens and beside
// listeners, and looks for traces.
func TestEverythingHolds(t *testing.T) {
	for _, backend := range everyBackend {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, "vf-holds", backend)
			try := func(t *testing.T) {
				for name, set := range map[string]func(*tp.Config){
					"no DNS":      nil,
					"servers":     func(c *tp.Config) { c.DNS.Enabled = true },
					"all":         func(c *tp.Config) { c.DNS.CaptureAll = true },
					"no zones":    func(c *tp.Config) { c.DNS.CaptureAll, c.DNS.SkipZoneSplit = true, true },
					"IPv4 alone":  func(c *tp.Config) { c.DNS.CaptureAll, c.IPFamilyMode = true, tp.IPv4Only },
					"no inbound":  func(c *tp.Config) { c.Inbound.Enabled = false },
					"no outbound": func(c *tp.Config) { c.Outbound.Enabled = false },
					"only some": func(c *tp.Config) {
						c.Inbound.IncludePorts, c.Inbound.ExcludePorts = redirectlab.ParsePorts(t, "80,8000-8100"), nil
						c.Outbound.IncludePorts, c.Outbound.ExcludePorts = redirectlab.ParsePorts(t, "80,443"), nil
					},
					"sources": func(c *tp.Config) {
						var err error
						if c.Inbound.ExcludeIPs, err = tp.ParseIPs("10.9.0.0/16,fd00:9::/64"); err != nil {
							t.Fatal(err)
						}
					},
				} {
					t.Run(name, func(t *testing.T) {
						l.install(t, set)
						before := l.traces(t)
						r := l.verify(t)
						for _, c := range r.Checks {
							if c.Result != verify.Holds {
								t.Errorf("%s (%s) is %s: %s; %s", c.ID, c.Promise, c.Result, c.Seen, c.Remedy)
							}
						}
						if r.Result != verify.Holds {
							t.Errorf("the result is %s", r.Result)
						}
						if diff := cmp.Diff(before, l.traces(t)); diff != "" {
							t.Errorf("traces are left:\n%s", diff)
						}
					})
				}
			}
			t.Run("nobody listens", try)
			redirectlab.StartServers(t, l.Host, l.remote)
			t.Run("somebody listens", try)
			l.remove(t)
		})
	}
}
