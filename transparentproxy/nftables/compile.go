//go:build linux

package nftables

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

const (
	// tableName is that of our table, in whichever family.
	tableName = "kuma_mesh"
	// labelPrefix begins the name of an empty chain that says which plan the table was made for.
	labelPrefix = "plan_"
)

// table is what should be in the kernel.
type table struct {
	family uint8 // NFPROTO_INET, or one family where the kernel has no NAT in NFPROTO_INET
	chains []chain
}

// chain is a chain of the plan, or the label.
type chain struct {
	name string
	hook *hook // nil unless the kernel enters it by itself
	// table and in say where the plan has it.
	table, in string
	rules     []rule
}

// hook is where the kernel enters a chain.
type hook struct {
	kind     string
	number   uint32
	priority int32
}

// hooks of the plan's built-in chains, with the priorities of iptables, but before iptables for NAT: whoever binds a
// connection first wins (ADR 0006).
var hooks = map[string]hook{
	"raw_prerouting":    {"filter", unix.NF_INET_PRE_ROUTING, -300},
	"raw_output":        {"filter", unix.NF_INET_LOCAL_OUT, -300},
	"mangle_prerouting": {"filter", unix.NF_INET_PRE_ROUTING, -150},
	"nat_prerouting":    {"nat", unix.NF_INET_PRE_ROUTING, -101},
	"nat_output":        {"nat", unix.NF_INET_LOCAL_OUT, -101},
}

// tableOrder is the order in which chains of the plan's tables stand: what only some plans have comes last, so that it does
// not matter which plan was there before.
var tableOrder = []string{tp.TableNAT, tp.TableRaw, tp.TableMangle}

// rule is one or more rules of the plan. All conditions must hold.
type rule struct {
	ids        []string
	family     tp.Family // 0 for all that come here
	protocol   string    // empty for all
	conditions []condition
	verdict    tp.Verdict
}

// compile turns a plan into one table of a family that has both, or, if joint is 0, one for each.
func compile(plan *tp.Plan, joint uint8) ([]table, error) {
	if err := plan.Check(); err != nil {
		return nil, err
	}
	if joint != 0 {
		t, err := compileTable(joint, plan.Families)
		return []table{t}, err
	}
	var out []table
	for _, f := range plan.Families {
		family := uint8(unix.NFPROTO_IPV4)
		if f.Family == tp.IPv6 {
			family = unix.NFPROTO_IPV6
		}
		t, err := compileTable(family, []tp.FamilyPlan{f})
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func compileTable(family uint8, families []tp.FamilyPlan) (table, error) {
	t := table{family: family}
	for i, f := range families {
		for _, pt := range f.Tables {
			for _, pc := range pt.Chains {
				rules, err := translate(f.Family, pc)
				if err != nil {
					return table{}, fmt.Errorf("%v %s %s %w", f.Family, pt.Name, pc.Name, err)
				}
				at := slices.IndexFunc(t.chains, func(c chain) bool { return c.table == pt.Name && c.in == pc.Name })
				if at < 0 {
					c, err := newChain(pt.Name, pc)
					if err != nil {
						return table{}, err
					}
					at, t.chains = len(t.chains), append(t.chains, c)
				}
				if i == 0 {
					t.chains[at].rules = rules
				} else {
					t.chains[at].rules = merge(t.chains[at].rules, rules)
				}
			}
		}
	}
	for i := range t.chains {
		c := &t.chains[i]
		// With one family only its packets pass the built-in chains, so that the others need not ask.
		if len(families) == 1 && (c.hook == nil || family != unix.NFPROTO_INET) {
			for j := range c.rules {
				c.rules[j].family = 0
			}
		}
		c.rules = group(c.rules)
	}
	slices.SortStableFunc(t.chains, func(a, b chain) int { return slices.Index(tableOrder, a.table) - slices.Index(tableOrder, b.table) })
	sum := sha256.Sum256([]byte(t.text()))
	t.chains = append(t.chains, chain{name: labelPrefix + hex.EncodeToString(sum[:6])})
	return t, nil
}

func newChain(table string, pc tp.Chain) (chain, error) {
	c := chain{name: pc.Name, table: table, in: pc.Name}
	if pc.Owned {
		return c, nil
	}
	c.name = table + "_" + strings.ToLower(pc.Name)
	h, ok := hooks[c.name]
	if !ok {
		return chain{}, fmt.Errorf("%s %s: no such built-in chain", table, pc.Name)
	}
	c.hook = &h
	return c, nil
}

// translate lists a chain's rules for one family. The plan lists them in the order in which they are to stand; positions
// only say how they stand to rules of others, which are in tables of their own here.
func translate(family tp.Family, c tp.Chain) ([]rule, error) {
	var out []rule
	for _, pr := range c.Rules {
		r, possible, err := translateRule(family, pr)
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", pr.ID, err)
		}
		if possible {
			out = append(out, r)
		}
	}
	for i := range max(0, len(out)-1) {
		out[i].forgetOwner(out[i+1])
	}
	return out, nil
}

// translateRule also says whether any packet can match.
func translateRule(family tp.Family, pr tp.Rule) (r rule, possible bool, err error) {
	r = rule{ids: []string{pr.ID}, family: family, verdict: pr.Verdict}
	switch v := pr.Verdict.(type) {
	case tp.Return, tp.Redirect, tp.Zone, tp.Drop:
	case tp.Log:
		if int(v.Level) >= len(logLevels) {
			return rule{}, false, fmt.Errorf("log level %d is above %d", v.Level, len(logLevels)-1)
		}
	case tp.Jump:
		// Docker's chain is in a table of its own. It is asked after ours, which does nothing to the packet.
		if v.Chain == tp.ChainDocker {
			r.verdict = tp.Return{}
		}
	default:
		return rule{}, false, fmt.Errorf("verdict %T is not known", v)
	}
	possible = true
	for _, m := range pr.Match {
		var c condition
		switch m := m.(type) {
		case tp.Protocol:
			r.protocol = m.Name
			continue
		case tp.InInterface:
			c = condition{field: inInterface, name: m.Name}
		case tp.OutInterface:
			c = condition{field: outInterface, name: m.Name}
		case tp.Source:
			c = condition{field: source, spans: []span{prefixSpan(m.Prefix)}}
		case tp.Destination:
			c = condition{field: destination, not: m.Not, spans: []span{prefixSpan(m.Prefix)}}
		case tp.SourcePort:
			c = condition{field: sourcePort, spans: []span{portSpan(m.Port, m.Port)}}
		case tp.DestinationPort:
			c = condition{field: destinationPort, not: m.Not, spans: []span{portSpan(m.Range.First, m.Range.Last)}}
		case tp.Multiport:
			r.protocol = m.Protocol
			c = condition{field: destinationPort}
			for _, p := range m.Ports {
				c.spans = append(c.spans, portSpan(p.First, p.Last))
			}
		case tp.Owner:
			c = condition{field: owner, not: m.Not, spans: []span{uidSpan(m.UIDs.First, m.UIDs.Last)}}
		case tp.InvalidState:
			c = condition{field: invalidState}
		default:
			return rule{}, false, fmt.Errorf("match %T is not known", m)
		}
		c.spans = joined(c.spans)
		if len(c.name) >= unix.IFNAMSIZ {
			return rule{}, false, fmt.Errorf("interface name %q is longer than %d", c.name, unix.IFNAMSIZ-1)
		}
		switch {
		case c.name == "+": // every interface
		case c.isAddress() && c.all():
			possible = possible && !c.not
		default:
			r.conditions = append(r.conditions, c)
		}
	}
	slices.SortStableFunc(r.conditions, func(a, b condition) int { return int(a.field) - int(b.field) })
	return r, possible, nil
}

// forgetOwner drops the condition that a packet does not belong to a user, when the next rule does the same to all packets
// of that user. It is not only shorter: a packet of nobody, such as one of an NFS mount, is one of another user for iptables,
// while `meta skuid !=` does not match it.
func (r *rule) forgetOwner(next rule) {
	at := slices.IndexFunc(r.conditions, func(c condition) bool { return c.field == owner && c.not })
	if at < 0 || r.verdict != tp.Verdict(tp.Return{}) || next.verdict != r.verdict || next.protocol != "" || len(next.conditions) != 1 {
		return
	}
	c := r.conditions[at]
	c.not = false
	if c.equal(next.conditions[0]) {
		r.conditions = slices.Delete(slices.Clone(r.conditions), at, at+1)
	}
}
