//go:build linux

package iptables

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// What iptables cannot do is done over netlink in the calling thread's namespace: removing built-in chains and tables of the
// nft flavour, which iptables creates and never deletes.

// deleteCreated deletes built-in chains and tables of the nft flavour. The kernel refuses what holds anything, at the same
// instant, so that rules that others put there meanwhile are safe.
func deleteCreated(list []netns.Created) error {
	var errs []error
	for _, family := range []tp.Family{tp.IPv4, tp.IPv6} {
		if !slices.ContainsFunc(list, func(c netns.Created) bool { return c.Family == family }) {
			continue
		}
		there, err := nftObjects(family)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var chains, tables []netns.Created
		for _, c := range list {
			switch {
			case !there[c]: // of the other family, or gone
			case c.Chain == "":
				tables = append(tables, c)
			default:
				chains = append(chains, c)
			}
		}
		// All at once, since every transaction waits for the packets under way; one by one when something is in use.
		all := slices.Concat(chains, tables)
		err = deleteNFT(family, all...)
		if !inUse(err) {
			errs = append(errs, err)
			continue
		}
		for _, c := range all {
			if err := deleteNFT(family, c); !inUse(err) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// inUse reports whether the kernel refused because somebody uses what was to be deleted, or deleted it already.
func inUse(err error) bool { return errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOENT) }

// deleteNFT is one transaction.
func deleteNFT(family tp.Family, list ...netns.Created) error {
	messages := make([]netns.Message, len(list))
	for i, c := range list {
		m := netns.Message{Kind: unix.NFT_MSG_DELTABLE, Flags: unix.NLM_F_NONREC, Family: nftFamily(family)}
		if c.Chain == "" {
			m.Attrs = netns.AppendString(nil, unix.NFTA_TABLE_NAME, c.Table)
		} else {
			m.Kind = unix.NFT_MSG_DELCHAIN
			m.Attrs = netns.AppendString(netns.AppendString(nil, unix.NFTA_CHAIN_TABLE, c.Table), unix.NFTA_CHAIN_NAME, c.Chain)
		}
		messages[i] = m
	}
	if err := netns.Commit(messages...); err != nil {
		return fmt.Errorf("delete empty %v nft tables: %w", family, err)
	}
	return nil
}

// nftObjects lists the tables and the chains of one family in the nft flavour. iptables-save is no help: it shows built-in
// chains of a table whether they exist or not.
func nftObjects(family tp.Family) (map[netns.Created]bool, error) {
	out := map[netns.Created]bool{}
	tables, err := netns.List(unix.NFT_MSG_GETTABLE, nftFamily(family), nil)
	if err != nil {
		return nil, fmt.Errorf("list %v nft tables: %w", family, err)
	}
	for _, t := range tables {
		out[netns.Created{Family: family, Table: t.String(unix.NFTA_TABLE_NAME)}] = true
	}
	chains, err := netns.List(unix.NFT_MSG_GETCHAIN, nftFamily(family), nil)
	if err != nil {
		return nil, fmt.Errorf("list %v nft chains: %w", family, err)
	}
	for _, c := range chains {
		out[netns.Created{Family: family, Table: c.String(unix.NFTA_CHAIN_TABLE), Chain: c.String(unix.NFTA_CHAIN_NAME)}] = true
	}
	return out, nil
}

// toCreate lists what the apply of a plan is about to create in the nft flavour: iptables makes built-in chains, and not
// only those it needs.
func toCreate(there map[netns.Created]bool, plan *tp.FamilyPlan) []netns.Created {
	var out []netns.Created
	for _, t := range plan.Tables {
		for _, chain := range append(slices.Clone(builtinChains[t.Name]), "") {
			if c := (netns.Created{Family: plan.Family, Table: t.Name, Chain: chain}); !there[c] {
				out = append(out, c)
			}
		}
	}
	return out
}

// builtinChains are all that a table can have.
var builtinChains = map[string][]string{
	tp.TableRaw:    {"PREROUTING", "OUTPUT"},
	tp.TableNAT:    {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"},
	tp.TableMangle: {"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"},
}

func nftFamily(f tp.Family) uint8 {
	if f == tp.IPv6 {
		return unix.AF_INET6
	}
	return unix.AF_INET
}
