//go:build linux

package verify_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
	"github.com/kuma-dp/kuma-dp/test/redirectlab"
	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// damage is something that goes wrong, and what a verification has to say of it.
type damage struct {
	name string
	// set changes the configuration, of which the DNS servers of resolv.conf are redirected.
	set func(*tp.Config)
	// script damages the rules, by backend; "" is all others.
	script map[string]string
	// serve starts listeners.
	serve func(s *redirectlab.Servers, h *netlab.Host)
	// broken are the ids of exactly the promises that do not hold, and says what one of them has to tell, by id.
	broken []string
	says   map[string]string
}

// fullFamily are the promises that need redirection of a family.
func fullFamily(family, server string) []string {
	out := []string{"outbound.", "loopback.proxy.self.", "inbound.", "dns.udp." + server + ".", "dns.tcp." + server + ".", "dns.zones." + server + "."}
	for i := range out {
		out[i] += family
	}
	return out
}

// removeRule deletes the rules of a chain whose text matches, in both families.
func removeRule(chain, nft, iptables string) map[string]string {
	ipt := func(flavour string) string {
		return `for c in iptables ip6tables; do $c-` + flavour + `-save -t ` + strings.Replace(chain, " ", " | grep -e '^-A ", 1) + ` .*` + iptables + `' | sed 's/^-A/-D/' | while read -r rule; do
echo "$rule" | xargs $c-` + flavour + ` -w 30 -t ` + strings.Fields(chain)[0] + `; done; done`
	}
	name := strings.Fields(chain)[1]
	return map[string]string{
		"nftables": `nft -a list chain inet kuma_mesh ` + name + ` | sed -n 's/.*` + nft + `.*# handle \([0-9]*\)$/\1/p' | while read -r h; do
nft delete rule inet kuma_mesh ` + name + ` handle $h; done`,
		"iptables-nft": ipt("nft"), "iptables-legacy": ipt("legacy"),
	}
}

func damages() []damage {
	dp := redirectlab.DPUID
	listen := func(uid int, addrs ...string) func(*redirectlab.Servers, *netlab.Host) {
		return func(s *redirectlab.Servers, h *netlab.Host) {
			for _, a := range addrs {
				s.UDP(h, uid, a+":15053", "mesh dns")
			}
		}
	}
	return []damage{
		{
			name:   "an exclusion is deleted",
			script: removeRule("nat KUMA_MESH_OUTBOUND", "exclude.port.443", "--dport 443 "),
			broken: []string{"outbound.exclude.port.443.ipv4", "outbound.exclude.port.443.ipv6"},
			says:   map[string]string{"outbound.exclude.port.443.ipv4": ":443 was redirected to port 15001"},
		},
		{
			name:   "inbound is deleted",
			script: removeRule("nat KUMA_MESH_INBOUND", `comment "all"`, "-j KUMA_MESH_INBOUND_REDIRECT"),
			broken: []string{"inbound.ipv4", "inbound.ipv6"},
			says:   map[string]string{"inbound.ipv6": "itself, not redirected"},
		},
		{
			name: "everything is flushed",
			script: map[string]string{
				"nftables": "nft flush ruleset", "iptables-nft": "nft flush ruleset",
				"iptables-legacy": `for c in iptables ip6tables; do for t in nat raw; do $c-legacy -w 30 -t $t -F; $c-legacy -w 30 -t $t -X; done; done`,
			},
			broken: slices.Concat(fullFamily("ipv4", "10.255.0.53"), []string{"dns.udp.127.0.0.11.ipv4", "dns.tcp.127.0.0.11.ipv4", "dns.zones.127.0.0.11.ipv4"},
				fullFamily("ipv6", "fd00:53::53")),
			says: map[string]string{"outbound.ipv4": "no rule redirects it"},
		},
		{
			name: "IPv6 is missing",
			script: map[string]string{
				"nftables":        `nft 'insert rule inet kuma_mesh nat_prerouting meta nfproto ipv6 return; insert rule inet kuma_mesh nat_output meta nfproto ipv6 return; insert rule inet kuma_mesh raw_output meta nfproto ipv6 return'`,
				"iptables-nft":    "nft delete table ip6 nat; nft delete table ip6 raw",
				"iptables-legacy": `for t in nat raw; do ip6tables-legacy -w 30 -t $t -F; done`,
			},
			broken: fullFamily("ipv6", "fd00:53::53"),
			says:   map[string]string{"outbound.ipv6": "see what differs"},
		},
		{
			name: "another redirects first",
			script: map[string]string{
				"nftables":        `nft 'table ip theirs { chain c { type nat hook output priority -150; tcp dport 1-60000 dnat to 10.77.0.3:7777; }; }'`,
				"iptables-nft":    "iptables-nft -t nat -I OUTPUT -p tcp -j DNAT --to-destination 10.77.0.3:7777",
				"iptables-legacy": "iptables-legacy -w 30 -t nat -I OUTPUT -p tcp -j DNAT --to-destination 10.77.0.3:7777",
			},
			broken: []string{
				"outbound.ipv4", "loopback.proxy.self.ipv4", "dns.tcp.10.255.0.53.ipv4", "dns.tcp.127.0.0.11.ipv4", "foreign.nat",
				"dns.proxy.127.0.0.11.ipv4", "loopback.localhost.ipv4", "loopback.proxy.localhost.ipv4", "loopback.passthrough.ipv4",
			},
			says: map[string]string{"outbound.ipv4": "a rule of somebody else sent it to 10.77.0.3:7777", "foreign.nat": "exclude that traffic on purpose"},
		},
		{
			name: "Istio",
			script: map[string]string{
				"": "iptables-nft -t nat -N ISTIO_OUTPUT; iptables-legacy -w 30 -t nat -N PROXY_INIT_REDIRECT; iptables-legacy -w 30 -t nat -A PROXY_INIT_REDIRECT -j RETURN",
			},
			broken: []string{"foreign.mesh"},
			says:   map[string]string{"foreign.mesh": "Istio: ip nat ISTIO_OUTPUT, Linkerd: iptables-legacy nat PROXY_INIT_REDIRECT"},
		},
		{
			name: "zones are missing",
			script: map[string]string{
				"nftables":        "nft flush chain inet kuma_mesh raw_output; nft flush chain inet kuma_mesh raw_prerouting",
				"iptables-nft":    "iptables-nft -t raw -F; ip6tables-nft -t raw -F",
				"iptables-legacy": "iptables-legacy -w 30 -t raw -F; ip6tables-legacy -w 30 -t raw -F",
			},
			broken: []string{
				"dns.zones.10.255.0.53.ipv4", "dns.zones.127.0.0.11.ipv4", "dns.zones.fd00:53::53.ipv6",
			},
			says: map[string]string{"dns.zones.10.255.0.53.ipv4": "is in conntrack zone 0 instead of"},
		},
		{
			name:   "the resolver runs as root",
			serve:  listen(0, "127.0.0.1", "[::1]"),
			broken: []string{"dns.udp.10.255.0.53.ipv4", "dns.udp.127.0.0.11.ipv4", "dns.udp.fd00:53::53.ipv6", "listener.dns.ipv4", "listener.dns.ipv6"},
			says:   map[string]string{"dns.udp.10.255.0.53.ipv4": "the answer gets lost: who listens at 127.0.0.1:15053 is uid 0 instead of 5678", "listener.dns.ipv6": "run kuma-dp as uid 5678"},
		},
		{
			name:   "the resolver listens at all addresses",
			serve:  listen(dp, "0.0.0.0", "[::]"),
			broken: []string{"dns.udp.10.255.0.53.ipv4", "dns.udp.fd00:53::53.ipv6", "listener.dns.ipv6"},
			says:   map[string]string{"dns.udp.10.255.0.53.ipv4": "the answer comes from 10.77.0.2:15053 instead of 127.0.0.1:15053"},
		},
		{
			name:   "the resolver listens for IPv4 alone",
			serve:  listen(dp, "127.0.0.1"),
			broken: []string{"dns.udp.fd00:53::53.ipv6", "listener.dns.ipv6"},
			says:   map[string]string{"dns.udp.fd00:53::53.ipv6": "nobody listens at [::1]:15053 itself", "listener.dns.ipv6": "only at 127.0.0.1:15053"},
		},
		{
			name:   "loopback lacks an address",
			script: map[string]string{"": "ip addr del ::6/128 dev lo"},
			broken: []string{"loopback.passthrough.ipv6"},
			says:   map[string]string{"loopback.passthrough.ipv6": "loopback lacks the address ::6"},
		},
		{
			name: "a firewall drops everything from an unknown link",
			script: map[string]string{
				"": `nft 'table inet theirs { chain c { type filter hook input priority 0; iifname != { lo, eth0 } drop; }; }'`,
			},
			broken: []string{"inbound.ipv4", "inbound.ipv6", "inbound.exclude.port.22.ipv4", "inbound.exclude.port.22.ipv6"},
			says:   map[string]string{"inbound.ipv4": "does not arrive: a firewall"},
		},
		{
			name: "another takes a port that no packet is tried with",
			script: map[string]string{
				"nftables":        `nft 'table inet theirs { chain c { type nat hook prerouting priority -150; tcp dport 8443 redirect to :7777; }; }'`,
				"iptables-nft":    "iptables-nft -t nat -N THEIRS; iptables-nft -t nat -A THEIRS -p tcp --dport 8443 -j DNAT --to-destination 10.77.0.3; iptables-nft -t nat -I PREROUTING -j THEIRS",
				"iptables-legacy": "iptables-legacy -w 30 -t nat -N THEIRS; iptables-legacy -w 30 -t nat -A THEIRS -p tcp --dport 8443 -j REDIRECT --to-ports 7777; iptables-legacy -w 30 -t nat -I PREROUTING -j THEIRS",
			},
			broken: []string{"foreign.nat"},
			says:   map[string]string{"foreign.nat": "what these rules match does not get to Envoy"},
		},
		{
			name: "another takes what ours leave alone",
			script: map[string]string{
				"nftables":        "iptables-nft -t nat -A OUTPUT -p tcp --dport 9999 -j REDIRECT --to-ports 7777",
				"iptables-nft":    "iptables-nft -t nat -A OUTPUT -p tcp --dport 9999 -j REDIRECT --to-ports 7777",
				"iptables-legacy": "iptables-legacy -w 30 -t nat -A OUTPUT -p tcp --dport 9999 -j REDIRECT --to-ports 7777",
			},
		},
		{
			name: "a firewall drops what goes to Envoy",
			script: map[string]string{
				"": `nft 'table inet theirs { chain c { type filter hook output priority 0; tcp dport 15001 drop; }; }'`,
			},
			broken: []string{"outbound.ipv4", "outbound.ipv6"},
			says:   map[string]string{"outbound.ipv4": "a firewall of this host drops"},
		},
		{
			name: "reverse paths are filtered",
			set: func(c *tp.Config) {
				c.Inbound.ExcludeIPs = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("fd00:9::/64")}
			},
			script: map[string]string{"": "sysctl -qw net.ipv4.conf.all.rp_filter=1; ip route add 10.9.0.0/16 dev eth0"},
			broken: []string{"inbound.exclude.ip.10.9.0.0/16.ipv4"},
			says:   map[string]string{"inbound.exclude.ip.10.9.0.0/16.ipv4": "rp_filter"},
		},
		{
			name:   "connection tracking tells nothing",
			script: map[string]string{"": "sysctl -qw net.netfilter.nf_conntrack_events=0"},
			broken: []string{"*"},
			says:   map[string]string{"outbound.ipv4": "sysctl -w net.netfilter.nf_conntrack_events=1"},
		},
	}
}

func TestDamage(t *testing.T) {
	for _, backend := range everyBackend {
		for _, d := range damages() {
			t.Run(backend+"/"+d.name, func(t *testing.T) {
				l := newLab(t, "vf-damage", backend)
				l.install(t, func(c *tp.Config) {
					c.DNS.Enabled = true
					if d.set != nil {
						d.set(c)
					}
				})
				script, ok := d.script[backend]
				if !ok {
					script = d.script[""]
				}
				l.shell(t, script)
				if d.serve != nil {
					d.serve(redirectlab.NewServers(t), l.Host)
				}
				before := l.traces(t)
				r := l.verify(t)
				got, want := notHolding(r), slices.Clone(d.broken)
				slices.Sort(got)
				slices.Sort(want)
				if slices.Equal(want, []string{"*"}) { // all that takes packets
					want = slices.DeleteFunc(slices.Clone(got), func(id string) bool { return strings.HasPrefix(id, "foreign.") })
				}
				if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("broken (-want +got):\n%s", diff)
					for _, id := range got {
						t.Logf("%+v", find(t, r, id))
					}
				}
				for id, words := range d.says {
					if c := find(t, r, id); !strings.Contains(c.Seen+c.Remedy, words) {
						t.Errorf("%s does not say %q: %q, %q", id, words, c.Seen, c.Remedy)
					}
				}
				if diff := cmp.Diff(before, l.traces(t)); diff != "" {
					t.Errorf("traces are left:\n%s", diff)
				}
			})
		}
	}
}

// dockers are the rules of a container of a custom network.
const dockers = `*nat
:DOCKER_OUTPUT - [0:0]
-A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT
-A DOCKER_OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:40053
-A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:40053
COMMIT
`

// TestResolverOfDocker is what the plan reckons with, but for TCP with iptables, where Docker's rule stands before.
func TestResolverOfDocker(t *testing.T) {
	for backend, want := range map[string][]string{
		"nftables": nil, "iptables-nft": {"dns.tcp.127.0.0.11.ipv4"}, "iptables-legacy": {"dns.tcp.127.0.0.11.ipv4"},
	} {
		t.Run(backend, func(t *testing.T) {
			l := newLab(t, "vf-docker", backend)
			flavour := strings.TrimPrefix(strings.Replace(backend, "nftables", "iptables-nft", 1), "iptables-")
			redirectlab.Shell(t, l.Host, dockers, "iptables-"+flavour+"-restore --noflush")
			servers := filepath.Join(t.TempDir(), "resolv.conf")
			if err := os.WriteFile(servers, []byte("nameserver 127.0.0.11\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			l.install(t, func(c *tp.Config) { c.DNS.Enabled, c.DNS.ResolvConfPath = true, servers })
			r := l.verify(t)
			if diff := cmp.Diff(want, notHolding(r)); diff != "" {
				t.Errorf("broken (-want +got):\n%s", diff)
			}
			if c := find(t, r, "dns.proxy.127.0.0.11.ipv4"); !strings.Contains(c.Seen, "sent it to 127.0.0.11:40053") {
				t.Errorf("got %+v", c)
			}
		})
	}
}
