//go:build linux

package redirect_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// dockers are what Docker does in a container of a custom network: its resolver listens on a port of its choice.
const dockers = `*nat
:DOCKER_OUTPUT - [0:0]
:DOCKER_POSTROUTING - [0:0]
-A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT
-A POSTROUTING -d 127.0.0.11/32 -j DOCKER_POSTROUTING
-A DOCKER_OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:40053
-A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:40053
-A DOCKER_POSTROUTING -s 127.0.0.11/32 -p tcp -m tcp --sport 40053 -j SNAT --to-source :53
-A DOCKER_POSTROUTING -s 127.0.0.11/32 -p udp -m udp --sport 40053 -j SNAT --to-source :53
COMMIT
`

// TestResolverOfDocker has an application ask the mesh, and the agent ask Docker, on the same address.
func TestResolverOfDocker(t *testing.T) {
	for _, tc := range []struct{ backend, flavour string }{
		{"nftables", "nft"}, {"nftables", "legacy"}, {"iptables-nft", "nft"}, {"iptables-legacy", "legacy"},
	} {
		t.Run(tc.backend+", Docker in "+tc.flavour, func(t *testing.T) {
			l := newLab(t, "rd-dns", tc.backend)
			redirectlab.Shell(t, l.Host, dockers, "iptables-"+tc.flavour+"-restore --noflush")
			s := redirectlab.NewServers(t)
			s.UDP(l.Host, 0, "127.0.0.11:40053", "docker")
			s.TCP(l.Host, 0, "127.0.0.11:40053", "docker", false)
			s.UDP(l.Host, redirectlab.DPUID, "127.0.0.1:15053", "mesh")
			s.TCP(l.Host, redirectlab.DPUID, "127.0.0.1:15053", "mesh", false)
			servers := resolvConf(t, "127.0.0.11")
			tcp := "mesh"
			if tc.backend != "nftables" {
				tcp = "docker" // Docker's rule stands before the one that Kuma appends for connections
			}
			ask := func(t *testing.T, uid int, udp, tcp string) {
				t.Helper()
				for proto, want := range map[string]string{"udp": udp, "tcp": tcp} {
					if got := redirectlab.Probe(t.Context(), l.Host, uid, proto, "127.0.0.11:53", ""); got != want {
						t.Errorf("uid %d, %s: got %q, want %q", uid, proto, got, want)
					}
				}
			}
			ask(t, redirectlab.AppUID, "docker", "docker")
			before := l.snapshot(t)
			for name, set := range map[string]func(*tp.Config){
				"its address":           func(c *tp.Config) { c.DNS.Enabled = true },
				"its address, no zones": func(c *tp.Config) { c.DNS.Enabled, c.DNS.SkipZoneSplit = true, true },
				"all":                   func(c *tp.Config) { c.DNS.CaptureAll = true },
			} {
				t.Run(name, func(t *testing.T) {
					l.apply(t, l.m, config(func(c *tp.Config) {
						c.User, c.UIDOnly, c.DNS.ResolvConfPath = strconv.Itoa(redirectlab.DPUID), true, servers
						set(c)
					}))
					ask(t, redirectlab.AppUID, "mesh", tcp)
					ask(t, redirectlab.DPUID, "docker", "docker")
				})
			}
			l.remove(t, l.m)
			ask(t, redirectlab.AppUID, "docker", "docker")
			if after := l.snapshot(t); withoutCounts(after) != withoutCounts(before) {
				t.Errorf("the host was\n%s\nand is\n%s", before, after)
			}
		})
	}
}

// withoutCounts leaves out counters of rules, which count the probes.
func withoutCounts(s string) string {
	var out strings.Builder
	for line := range strings.Lines(s) {
		if _, rest, ok := strings.Cut(line, "] "); ok && line[0] == '[' {
			line = rest
		}
		fields := strings.Fields(line)
		for i, f := range fields {
			if i > 0 && (fields[i-1] == "packets" || fields[i-1] == "bytes") {
				f = "n"
			}
			out.WriteString(f + " ")
		}
		out.WriteString("\n")
	}
	return out.String()
}
