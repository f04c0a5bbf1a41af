//go:build linux

package nftables

import (
	"fmt"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// transaction is messages, each with what it is about, for errors.
type transaction struct {
	messages []netns.Message
	about    []string
	verdicts map[int]tp.Verdict // of the messages that are rules of a plan
}

func (t *transaction) add(about string, m ...netns.Message) {
	for range m {
		t.about = append(t.about, about)
	}
	t.messages = append(t.messages, m...)
}

func newTable(family uint8) netns.Message {
	attrs := netns.AppendUint32(netns.AppendString(nil, unix.NFTA_TABLE_NAME, tableName), unix.NFTA_TABLE_FLAGS, 0)
	return netns.Message{Kind: unix.NFT_MSG_NEWTABLE, Flags: unix.NLM_F_CREATE, Family: family, Attrs: attrs}
}

func deleteTable(family uint8) netns.Message {
	return netns.Message{Kind: unix.NFT_MSG_DELTABLE, Family: family, Attrs: netns.AppendString(nil, unix.NFTA_TABLE_NAME, tableName)}
}

// deleteRules empties all chains.
func deleteRules(family uint8) netns.Message {
	return netns.Message{Kind: unix.NFT_MSG_DELRULE, Family: family, Attrs: netns.AppendString(nil, unix.NFTA_RULE_TABLE, tableName)}
}

func chainName(name string) []byte {
	return netns.AppendString(netns.AppendString(nil, unix.NFTA_CHAIN_TABLE, tableName), unix.NFTA_CHAIN_NAME, name)
}

func deleteChain(family uint8, name string) netns.Message {
	return netns.Message{Kind: unix.NFT_MSG_DELCHAIN, Family: family, Attrs: chainName(name)}
}

func (c chain) message(family uint8) netns.Message {
	attrs := chainName(c.name)
	if c.hook != nil {
		where := netns.AppendUint32(nil, unix.NFTA_HOOK_HOOKNUM, c.hook.number)
		where = netns.AppendUint32(where, unix.NFTA_HOOK_PRIORITY, uint32(c.hook.priority))
		attrs = netns.AppendAttr(attrs, unix.NFTA_CHAIN_HOOK|unix.NLA_F_NESTED, where)
		attrs = netns.AppendUint32(attrs, unix.NFTA_CHAIN_POLICY, acceptPolicy)
		attrs = netns.AppendString(attrs, unix.NFTA_CHAIN_TYPE, c.hook.kind)
	}
	return netns.Message{Kind: unix.NFT_MSG_NEWCHAIN, Flags: unix.NLM_F_CREATE, Family: family, Attrs: attrs}
}

// fill appends what makes a table, whose chains are empty if they are there, that of the plan.
func (t *transaction) fill(want table) error {
	for _, c := range want.chains {
		t.add("chain "+c.name, c.message(want.family))
	}
	e := &encoder{family: want.family}
	for _, c := range want.chains {
		for _, r := range c.rules {
			about := fmt.Sprintf("%s rule %s", c.name, r.comment())
			known := len(e.sets)
			list, err := marshal(want.family, e.rule(r))
			if err != nil {
				return fmt.Errorf("%s: %w", about, err)
			}
			for _, s := range e.sets[known:] {
				t.add(about, s.messages(want.family)...)
			}
			attrs := netns.AppendString(netns.AppendString(nil, unix.NFTA_RULE_TABLE, tableName), unix.NFTA_RULE_CHAIN, c.name)
			attrs = netns.AppendAttr(attrs, unix.NFTA_RULE_EXPRESSIONS|unix.NLA_F_NESTED, list)
			attrs = netns.AppendAttr(attrs, unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, r.comment()))
			if t.verdicts == nil {
				t.verdicts = map[int]tp.Verdict{}
			}
			t.verdicts[len(t.messages)] = r.verdict
			t.add(about, netns.Message{Kind: unix.NFT_MSG_NEWRULE, Flags: unix.NLM_F_CREATE | unix.NLM_F_APPEND, Family: want.family, Attrs: attrs})
		}
	}
	return nil
}

// marshal is the list of expressions of a rule.
func marshal(family uint8, list []expr.Any) ([]byte, error) {
	var out []byte
	for _, x := range list {
		b, err := expr.Marshal(family, x)
		if err != nil {
			return nil, err
		}
		out = netns.AppendAttr(out, unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
	}
	return out, nil
}
