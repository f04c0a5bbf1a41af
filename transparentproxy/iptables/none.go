//go:build linux

package iptables

import (
	"bytes"
	"slices"

	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// surelyNone reports whether the nft flavour has nothing of ours or of Kuma's for certain, as the kernel lists it: on most
// hosts that spares a process for each family whenever another backend is compared. What holds our words may be somebody
// else's; iptables-save has to tell then.
func (b *Backend) surelyNone() bool {
	if list, err := netns.Bare(b.cfg.StateDir); err != nil || len(list) > 0 {
		return false // rules without our words
	}
	for _, family := range []tp.Family{tp.IPv4, tp.IPv6} {
		there, err := nftObjects(family)
		if err != nil || slices.ContainsFunc(ownChains, func(c string) bool { return there[netns.Created{Family: family, Table: tp.TableNAT, Chain: c}] }) {
			return false
		}
		for _, table := range tables {
			if !there[netns.Created{Family: family, Table: table}] {
				continue
			}
			rules, err := netns.List(unix.NFT_MSG_GETRULE, nftFamily(family), netns.AppendString(nil, unix.NFTA_RULE_TABLE, table))
			if err != nil || slices.ContainsFunc(rules, hasOurWords) {
				return false
			}
		}
	}
	return true
}

// hasOurWords looks at comments, which are a match or the rule's own, and at chains that are jumped to.
func hasOurWords(rule netns.Object) bool {
	for _, kind := range []uint16{unix.NFTA_RULE_EXPRESSIONS, unix.NFTA_RULE_USERDATA} {
		for _, words := range []string{tp.CommentPrefix, tp.ChainOutbound, tp.ChainInbound} { // other chains begin with these
			if bytes.Contains(rule.Attrs[kind], []byte(words)) {
				return true
			}
		}
	}
	return false
}
