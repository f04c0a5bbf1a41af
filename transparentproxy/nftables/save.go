//go:build linux

package nftables

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// saved is everything that an apply or a removal may change.
type saved struct {
	Tables  []savedTable
	Journal json.RawMessage
}

// savedTable is a table of ours with all that others have put there, in attributes as the kernel lists them.
type savedTable struct {
	Family uint8
	Flags  uint32
	Chains []attributes
	Sets   []savedSet
	Rules  []attributes
}

type savedSet struct {
	Attrs    attributes
	Elements [][]byte
}

// attributes are those of a netlink message, by kind.
type attributes map[uint16][]byte

// Attributes as linux/netfilter/nf_tables.h numbers them.
const (
	nftaChainUserdata  = 12
	nftaSetExpr        = 17
	nftaSetExpressions = 18
)

// Save returns what is there of ours, for Restore. It changes nothing.
func (b *Backend) Save(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("save rules: %w", err)
	}
	now, err := readSaved()
	if err != nil {
		return nil, fmt.Errorf("save rules: %w", err)
	}
	s := saved{Tables: now}
	if s.Journal, err = netns.SaveJournal(b.cfg.StateDir, b.cfg.Log); err != nil {
		return nil, fmt.Errorf("save rules: %w", err)
	}
	return json.Marshal(s)
}

// Restore brings back what Save returned in one transaction, down to a table that was not there then.
func (b *Backend) Restore(ctx context.Context, data []byte) error {
	var s saved
	err := ctx.Err()
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err == nil {
		none := func([]netns.Created) error { return nil } // nothing but the table
		err = netns.RestoreJournal(b.cfg.StateDir, s.Journal, func() error { return putSaved(s.Tables) }, none, b.cfg.Log)
	}
	if err != nil {
		return fmt.Errorf("restore rules: %w", err)
	}
	return nil
}

func putSaved(want []savedTable) error {
	now, err := readSaved()
	if err != nil {
		return err
	}
	err = replacementSaved(now, want, false).commit()
	// What somebody else did to the table since then may be in the way.
	if refused := (*netns.RefusedError)(nil); errors.As(err, &refused) {
		err = replacementSaved(now, want, true).commit()
	}
	return err
}

// replacementSaved leads from one state to another. As in replacement, chains stay where they can.
func replacementSaved(now, want []savedTable, anew bool) *transaction {
	t := &transaction{}
	for _, w := range want {
		at := slices.IndexFunc(now, func(n savedTable) bool { return n.Family == w.Family })
		t.add("table "+tableName, newTable(w.Family))
		if at >= 0 && !anew && w.mends(now[at]) {
			t.empty(now[at], w)
		} else {
			again := newTable(w.Family)
			again.Attrs = netns.AppendUint32(netns.AppendString(nil, unix.NFTA_TABLE_NAME, tableName), unix.NFTA_TABLE_FLAGS, w.Flags&unix.NFT_TABLE_F_DORMANT)
			t.add("table "+tableName, deleteTable(w.Family), again)
		}
		t.fillSaved(w)
	}
	for _, n := range now {
		if !slices.ContainsFunc(want, func(w savedTable) bool { return w.Family == n.Family }) {
			t.add("table "+tableName, newTable(n.Family), deleteTable(n.Family)) // also when it is gone meanwhile
		}
	}
	return t
}

// mends reports whether emptying the table that is there and filling it again is enough.
func (s savedTable) mends(now savedTable) bool {
	return s.Flags == 0 && now.Flags == 0 && !slices.ContainsFunc(now.Chains, func(n attributes) bool {
		return slices.ContainsFunc(s.Chains, func(c attributes) bool {
			return c.text(unix.NFTA_CHAIN_NAME) == n.text(unix.NFTA_CHAIN_NAME) &&
				(!bytes.Equal(c[unix.NFTA_CHAIN_HOOK], n[unix.NFTA_CHAIN_HOOK]) || !bytes.Equal(c[unix.NFTA_CHAIN_TYPE], n[unix.NFTA_CHAIN_TYPE]))
		})
	})
}

// empty leaves of a table only the chains that are wanted, without rules.
func (t *transaction) empty(now, want savedTable) {
	t.add("rules of "+tableName, deleteRules(now.Family))
	for _, s := range now.Sets {
		if name := s.Attrs.text(unix.NFTA_SET_NAME); !s.isAnonymous() { // others go with their rules
			attrs := netns.AppendString(netns.AppendString(nil, unix.NFTA_SET_TABLE, tableName), unix.NFTA_SET_NAME, name)
			t.add("set "+name, netns.Message{Kind: unix.NFT_MSG_DELSET, Family: now.Family, Attrs: attrs})
		}
	}
	for _, c := range now.Chains {
		name := c.text(unix.NFTA_CHAIN_NAME)
		if !slices.ContainsFunc(want.Chains, func(w attributes) bool { return w.text(unix.NFTA_CHAIN_NAME) == name }) {
			t.add("chain "+name, deleteChain(now.Family, name))
		}
	}
}

func (t *transaction) fillSaved(w savedTable) {
	for _, c := range w.Chains {
		attrs := c.only(unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME, unix.NFTA_CHAIN_HOOK, unix.NFTA_CHAIN_POLICY, unix.NFTA_CHAIN_TYPE, nftaChainUserdata)
		t.add("chain "+c.text(unix.NFTA_CHAIN_NAME), netns.Message{Kind: unix.NFT_MSG_NEWCHAIN, Flags: unix.NLM_F_CREATE, Family: w.Family, Attrs: attrs})
	}
	ids := map[string]uint32{} // of sets without a name of their own
	for i, s := range w.Sets {
		if s.isAnonymous() {
			ids[s.Attrs.text(unix.NFTA_SET_NAME)] = uint32(i + 1)
		}
		t.add("set "+s.Attrs.text(unix.NFTA_SET_NAME), s.messages(w.Family, uint32(i+1))...)
	}
	for _, r := range w.Rules {
		attrs := r.only(unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN, unix.NFTA_RULE_USERDATA)
		attrs = netns.AppendAttr(attrs, unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, withSets(r[unix.NFTA_RULE_EXPRESSIONS], ids))
		t.add("rule of "+r.text(unix.NFTA_RULE_CHAIN), netns.Message{Kind: unix.NFT_MSG_NEWRULE, Flags: unix.NLM_F_CREATE | unix.NLM_F_APPEND, Family: w.Family, Attrs: attrs})
	}
}

func (s savedSet) isAnonymous() bool {
	return netns.Object{Attrs: s.Attrs}.Uint32(unix.NFTA_SET_FLAGS)&unix.NFT_SET_ANONYMOUS != 0
}

// messages create the set anew, under a number by which the rules of the transaction know it.
func (s savedSet) messages(family uint8, id uint32) []netns.Message {
	name := s.Attrs.text(unix.NFTA_SET_NAME)
	if s.isAnonymous() {
		name = newSetName
	}
	attrs := netns.AppendUint32(netns.AppendString(nil, unix.NFTA_SET_NAME, name), unix.NFTA_SET_ID, id)
	attrs = append(attrs, s.Attrs.only(unix.NFTA_SET_TABLE, unix.NFTA_SET_FLAGS, unix.NFTA_SET_KEY_TYPE, unix.NFTA_SET_KEY_LEN, unix.NFTA_SET_DATA_TYPE,
		unix.NFTA_SET_DATA_LEN, unix.NFTA_SET_POLICY, unix.NFTA_SET_DESC, unix.NFTA_SET_TIMEOUT, unix.NFTA_SET_GC_INTERVAL, unix.NFTA_SET_USERDATA,
		unix.NFTA_SET_OBJ_TYPE, nftaSetExpr, nftaSetExpressions)...)
	out := []netns.Message{{Kind: unix.NFT_MSG_NEWSET, Flags: unix.NLM_F_CREATE, Family: family, Attrs: attrs}}
	// A range is taken only when its beginning comes before its end, and the kernel lists from the end.
	elements := slices.SortedFunc(slices.Values(s.Elements), func(a, b []byte) int {
		x, y := parseElement(a), parseElement(b)
		return cmp.Or(strings.Compare(x.key, y.key), rank(y.end)-rank(x.end))
	})
	for chunk := range slices.Chunk(elements, maxElements) {
		var list []byte
		for _, e := range chunk {
			list = netns.AppendAttr(list, unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, e)
		}
		attrs := netns.AppendString(netns.AppendString(nil, unix.NFTA_SET_ELEM_LIST_TABLE, tableName), unix.NFTA_SET_ELEM_LIST_SET, name)
		attrs = netns.AppendUint32(attrs, unix.NFTA_SET_ELEM_LIST_SET_ID, id)
		attrs = netns.AppendAttr(attrs, unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED, list)
		out = append(out, netns.Message{Kind: unix.NFT_MSG_NEWSETELEM, Flags: unix.NLM_F_CREATE, Family: family, Attrs: attrs})
	}
	return out
}

func rank(b bool) int {
	if b {
		return 1
	}
	return 0
}

// withSets has the expressions of a rule look into the new sets instead of those that the kernel named.
func withSets(expressions []byte, ids map[string]uint32) []byte {
	var out []byte
	for _, item := range netns.Attrs(expressions) {
		var data []byte
		x := attributes{}
		for kind, value := range netns.Attrs(item) {
			x[kind] = value
		}
		for kind, value := range netns.Attrs(x[unix.NFTA_EXPR_DATA]) {
			id, ok := ids[strings.TrimRight(string(value), "\x00")]
			if ok && x.text(unix.NFTA_EXPR_NAME) == "lookup" && kind == unix.NFTA_LOOKUP_SET {
				data = netns.AppendUint32(netns.AppendString(data, unix.NFTA_LOOKUP_SET, newSetName), unix.NFTA_LOOKUP_SET_ID, id)
				continue
			}
			data = netns.AppendAttr(data, kind, value)
		}
		one := netns.AppendAttr(x.only(unix.NFTA_EXPR_NAME), unix.NFTA_EXPR_DATA|unix.NLA_F_NESTED, data)
		out = netns.AppendAttr(out, unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, one)
	}
	return out
}

func (a attributes) text(kind uint16) string { return netns.Object{Attrs: a}.String(kind) }

// only is what is there of some kinds, in that order.
func (a attributes) only(kinds ...uint16) []byte {
	var out []byte
	for _, k := range kinds {
		if v, ok := a[k]; ok {
			out = netns.AppendAttr(out, k, v)
		}
	}
	return out
}
