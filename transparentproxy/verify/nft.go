//go:build linux

package verify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// nftRules are the NAT rules that the kernel has in nf_tables, those of iptables-nft among them.
type nftRules struct {
	chains []nftChain
}

type nftChain struct {
	family      uint8
	table, name string
	base, nat   bool
	hook        uint32
	priority    int32
	rules       []nftRule
}

// nftRule is what matters of a rule here.
type nftRule struct {
	handle    uint64
	redirects bool
	ports     []uint16 // numbers that may be the port redirected to
	jumps     []string
}

// Priorities at which redirection of ours stands (ADR 0006); iptables has that of the kernel's headers.
const (
	ourPriority      = -101
	iptablesPriority = -100
)

func readNFT() (nftRules, error) {
	var out nftRules
	chains, err := netns.List(unix.NFT_MSG_GETCHAIN, unix.AF_UNSPEC, nil)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) {
		return out, nil // a kernel without nf_tables
	}
	if err != nil {
		return out, err
	}
	for _, o := range chains {
		c := nftChain{family: o.Family, table: o.String(unix.NFTA_CHAIN_TABLE), name: o.String(unix.NFTA_CHAIN_NAME), nat: o.String(unix.NFTA_CHAIN_TYPE) == "nat"}
		for kind, value := range netns.Attrs(o.Attrs[unix.NFTA_CHAIN_HOOK]) {
			if len(value) == 4 {
				n := binary.BigEndian.Uint32(value)
				switch kind {
				case unix.NFTA_HOOK_HOOKNUM:
					c.base, c.hook = true, n
				case unix.NFTA_HOOK_PRIORITY:
					c.priority = int32(n)
				}
			}
		}
		out.chains = append(out.chains, c)
	}
	rules, err := netns.List(unix.NFT_MSG_GETRULE, unix.AF_UNSPEC, nil)
	if err != nil {
		return out, err
	}
	for _, o := range rules {
		at := slices.IndexFunc(out.chains, func(c nftChain) bool {
			return c.family == o.Family && c.table == o.String(unix.NFTA_RULE_TABLE) && c.name == o.String(unix.NFTA_RULE_CHAIN)
		})
		if at >= 0 {
			out.chains[at].rules = append(out.chains[at].rules, parseRule(o))
		}
	}
	return out, nil
}

func parseRule(o netns.Object) nftRule {
	var r nftRule
	if b := o.Attrs[unix.NFTA_RULE_HANDLE]; len(b) == 8 {
		r.handle = binary.BigEndian.Uint64(b)
	}
	for _, e := range netns.Attrs(o.Attrs[unix.NFTA_RULE_EXPRESSIONS]) {
		var name string
		var data []byte
		for kind, value := range netns.Attrs(e) {
			switch kind {
			case unix.NFTA_EXPR_NAME:
				name = nl.BytesToString(value)
			case unix.NFTA_EXPR_DATA:
				data = value
			}
		}
		r.expression(name, data)
	}
	return r
}

func (r *nftRule) expression(name string, data []byte) {
	value := func(kind uint16) []byte {
		for k, v := range netns.Attrs(data) {
			if k == kind {
				return v
			}
		}
		return nil
	}
	switch name {
	case "redir", "tproxy":
		r.redirects = true
	case "nat":
		kind := value(unix.NFTA_NAT_TYPE)
		r.redirects = r.redirects || len(kind) == 4 && binary.BigEndian.Uint32(kind) == unix.NFT_NAT_DNAT
	case "target": // of iptables
		target := nl.BytesToString(value(unix.NFTA_TARGET_NAME))
		r.redirects = r.redirects || target == "REDIRECT" || target == "DNAT"
		if info := value(unix.NFTA_TARGET_INFO); target == "REDIRECT" {
			for _, at := range []int{16, 36} { // nf_nat_ipv4_multi_range_compat and nf_nat_range
				if len(info) >= at+2 {
					r.ports = append(r.ports, binary.BigEndian.Uint16(info[at:]))
				}
			}
		}
	case "immediate":
		for kind, data := range netns.Attrs(value(unix.NFTA_IMMEDIATE_DATA)) {
			switch kind {
			case unix.NFTA_DATA_VALUE:
				if len(data) == 2 {
					r.ports = append(r.ports, binary.BigEndian.Uint16(data))
				}
			case unix.NFTA_DATA_VERDICT:
				for k, chain := range netns.Attrs(data) {
					if k == unix.NFTA_VERDICT_CHAIN {
						r.jumps = append(r.jumps, string(bytes.TrimRight(chain, "\x00")))
					}
				}
			}
		}
	}
}

// names are the chains, with where they are before the name.
func (n nftRules) names() []string {
	var out []string
	for _, c := range n.chains {
		out = append(out, fmt.Sprintf("%s %s %s", familyName(c.family), c.table, c.name), fmt.Sprintf("%s %s", familyName(c.family), c.table))
	}
	return out
}

func familyName(f uint8) string {
	switch f {
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	case unix.NFPROTO_INET:
		return "inet"
	default:
		return strconv.Itoa(int(f))
	}
}

// before lists rules of others that redirect what this host sends or receives before ours do.
func (n nftRules) before(in Input) []string {
	ours := int32(iptablesPriority)
	if in.Backend == "nftables" {
		ours = ourPriority
	}
	var out []string
	for _, c := range n.chains {
		if !c.base || !c.nat || c.table == "kuma_mesh" || c.priority > ours || c.hook != unix.NF_INET_PRE_ROUTING && c.hook != unix.NF_INET_LOCAL_OUT {
			continue
		}
		for _, r := range c.rules {
			if in.Backend == "iptables-nft" && slices.ContainsFunc(r.jumps, isOurs) {
				break // what follows comes after ours
			}
			if n.redirects(in, c, r, nil) {
				out = append(out, fmt.Sprintf("%s %s %s rule %d (nft -a list chain %s %s %s)", familyName(c.family), c.table, c.name, r.handle, familyName(c.family), c.table, c.name))
			}
		}
	}
	return out
}

func isOurs(chain string) bool { return strings.HasPrefix(chain, tp.ChainPrefix) }

// leftAlone reports whether jumps to a chain are none of somebody who takes connections: ours, and Docker's for the queries to its own
// server, with which our plan reckons and packets are tried.
func leftAlone(chain string) bool { return isOurs(chain) || chain == tp.ChainDocker }

// redirects reports whether a rule, or one of a chain that it jumps to, redirects to somebody else.
func (n nftRules) redirects(in Input, at nftChain, r nftRule, path []string) bool {
	if r.redirects {
		return !slices.ContainsFunc(r.ports, func(p uint16) bool { return slices.Contains(ourPorts(in), p) })
	}
	for _, name := range r.jumps {
		if leftAlone(name) || slices.Contains(path, name) {
			continue
		}
		for _, c := range n.chains {
			if c.family == at.family && c.table == at.table && c.name == name &&
				slices.ContainsFunc(c.rules, func(next nftRule) bool { return n.redirects(in, c, next, append(path, name)) }) {
				return true
			}
		}
	}
	return false
}
