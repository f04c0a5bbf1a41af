//go:build linux

package verify

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// meshes are the beginnings of names of chains and tables that other meshes make.
var meshes = []struct{ prefix, name string }{
	{"ISTIO_", "Istio"}, {"istio-", "Istio"}, {"PROXY_INIT_", "Linkerd"}, {"CONSUL_", "Consul"}, {"consul-", "Consul"},
}

// legacyTables names the tables of legacy iptables that exist, by family. The kernel tells this much.
var legacyTables = []string{"/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"}

// foreign looks for rules of others that can take traffic before ours do, also such traffic as no packet was tried with.
func foreign(ctx context.Context, in Input) []Check {
	mesh := Check{ID: "foreign.mesh", Promise: "no other mesh redirects on this host", Result: Holds, Seen: "no rules of another mesh"}
	nat := Check{ID: "foreign.nat", Promise: "no rule of others redirects connections before ours", Result: Holds, Seen: "none stands before"}
	kernel, err := readNFT()
	var legacy []tp.NATRule
	if err == nil && hasLegacy() {
		err = errors.New("there are rules of legacy iptables, and nobody to list them")
		if in.Legacy != nil {
			legacy, err = in.Legacy(ctx)
		}
	}
	names := kernel.names()
	for _, r := range legacy {
		names = append(names, "iptables-legacy nat "+r.Chain)
	}
	var found []string
	for _, n := range names {
		last := n[strings.LastIndex(n, " ")+1:]
		for _, m := range meshes {
			if what := fmt.Sprintf("%s: %s", m.name, n); strings.HasPrefix(last, m.prefix) && !slices.Contains(found, what) {
				found = append(found, what)
			}
		}
	}
	for _, d := range in.Leftovers {
		found = append(found, "Kuma: "+d.Place())
	}
	before := append(kernel.before(in), legacyBefore(in, legacy)...)
	if err != nil {
		for _, c := range []*Check{&mesh, &nat} {
			c.Result, c.Seen, c.Remedy = Unknown, "the rules of others cannot be read: "+err.Error(), "run it as root, where iptables is installed"
		}
	}
	if len(found) > 0 {
		mesh.Result, mesh.Seen = Broken, some(found)
		mesh.Remedy = "remove the other mesh's redirection, or do not install ours here; of Kuma's, 'kumactl install transparent-proxy' again removes what is left in another backend"
	}
	if len(before) > 0 {
		nat.Result, nat.Seen = Broken, some(before)
		nat.Remedy = "what these rules match does not get to Envoy: remove them, or exclude that traffic on purpose"
	}
	return []Check{mesh, nat}
}

// some are the first of a list, and how many there are besides.
func some(list []string) string {
	const most = 3
	if len(list) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(list[:most], ", "), len(list)-most)
	}
	return strings.Join(list, ", ")
}

func hasLegacy() bool {
	return slices.ContainsFunc(legacyTables, func(path string) bool {
		b, err := os.ReadFile(path)
		return err == nil && slices.Contains(strings.Fields(string(b)), tp.TableNAT)
	})
}

// legacyBefore lists rules of legacy iptables that redirect before ours do. Rules of iptables-nft have the same priority, so that
// either may come first.
func legacyBefore(in Input, rules []tp.NATRule) []string {
	if in.Backend == "nftables" {
		return nil
	}
	var out []string
	for _, family := range []tp.Family{tp.IPv4, tp.IPv6} {
		for _, builtin := range []string{tp.ChainPrerouting, tp.ChainOutput} {
			var found []string
			for _, r := range chainOf(rules, family, builtin) {
				if isOurs(r.Target) && in.Backend == "iptables-legacy" {
					break // what follows comes after ours
				}
				if legacyRedirects(in, rules, r, nil) {
					found = append(found, fmt.Sprintf("%v (iptables-legacy) nat %s %s", family, builtin, r.Text))
				}
			}
			out = append(out, found...)
		}
	}
	return out
}

func chainOf(rules []tp.NATRule, f tp.Family, chain string) []tp.NATRule {
	var out []tp.NATRule
	for _, r := range rules {
		if r.Family == f && r.Chain == chain {
			out = append(out, r)
		}
	}
	return out
}

// legacyRedirects reports whether a rule, or one of a chain that it jumps to, redirects to somebody else.
func legacyRedirects(in Input, rules []tp.NATRule, r tp.NATRule, path []string) bool {
	switch {
	case r.Target == "DNAT":
		return true
	case r.Target == "REDIRECT":
		_, to, _ := strings.Cut(r.Text, "--to-ports ")
		port, _, _ := strings.Cut(to, " ")
		return !slices.ContainsFunc(ourPorts(in), func(p uint16) bool { return strconv.Itoa(int(p)) == port })
	case leftAlone(r.Target), slices.Contains(path, r.Target):
		return false
	}
	return slices.ContainsFunc(chainOf(rules, r.Family, r.Target), func(next tp.NATRule) bool {
		return legacyRedirects(in, rules, next, append(path, r.Target))
	})
}

func ourPorts(in Input) []uint16 {
	return []uint16{in.Config.Outbound.Port, in.Config.Inbound.Port, in.Config.DNS.Port}
}
