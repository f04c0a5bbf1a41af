//go:build linux

package iptables

import (
	"net/netip"
	"slices"
	"strings"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// compare lists how the kernel differs from the plan of a family; nil is a plan of nothing. Counters and comments do not
// matter, foreign rules only where they stand before rules that have to be first.
func compare(flavour Flavour, family tp.Family, now *ruleset, plan *tp.FamilyPlan) []tp.Difference {
	var out []tp.Difference
	var current tp.Difference
	add := func(rule, problem string) {
		d := current
		d.Rule, d.Problem = rule, problem
		out = append(out, d)
	}
	for _, name := range tables {
		t := now.table(name)
		planned := plannedChains(plan, name)
		for _, c := range planned {
			current = tp.Difference{Family: family, Backend: flavour.backend(), Table: name, Chain: c.Name}
			if c.Owned && !slices.Contains(t.custom, c.Name) {
				add("", "the chain is missing")
				continue
			}
			compareChain(c, t.in(c.Name), add)
		}
		inPlan := func(chain string) bool {
			return slices.ContainsFunc(planned, func(c tp.Chain) bool { return c.Name == chain })
		}
		for _, c := range t.ownChains(name) {
			if !inPlan(c) {
				current = tp.Difference{Family: family, Backend: flavour.backend(), Table: name, Chain: c}
				add("", "the chain is not in the plan")
			}
		}
		for _, r := range t.ownBuiltin() {
			if !inPlan(r.chain) {
				current = tp.Difference{Family: family, Backend: flavour.backend(), Table: name, Chain: r.chain}
				add(r.args, "the rule is not in the plan")
			}
		}
	}
	return out
}

func plannedChains(plan *tp.FamilyPlan, table string) []tp.Chain {
	if plan == nil {
		return nil
	}
	for _, t := range plan.Tables {
		if t.Name == table {
			return t.Chains
		}
	}
	return nil
}

func compareChain(c tp.Chain, now []savedRule, add func(rule, problem string)) {
	var found []string // canonical form of our rules there
	var args []string
	foreign := -1 // index of the first foreign rule
	for i, r := range now {
		if c.Owned || r.own {
			found = append(found, canonical(r.words))
			args = append(args, r.args)
		} else if foreign < 0 {
			foreign = i
		}
	}
	want := make([]string, len(c.Rules))
	inserted := 0
	for i, r := range c.Rules {
		want[i] = canonical(strings.Fields(r.Spec()))
		if r.Position > 0 {
			inserted++
		}
	}
	if slices.Equal(found, want) {
		if foreign >= 0 && foreign < inserted {
			add(c.Rules[inserted-1].ID, "a rule of somebody else stands before it")
		}
		return
	}
	rest := slices.Clone(found)
	complete := true
	for i, w := range want {
		if at := slices.Index(rest, w); at >= 0 {
			rest[at] = ""
		} else {
			add(c.Rules[i].ID, "the rule is missing")
			complete = false
		}
	}
	for i, r := range rest {
		if r != "" {
			add(args[i], "the rule is not in the plan")
			complete = false
		}
	}
	if complete {
		add("", "the rules are in another order")
	}
}

// canonical writes the matches and the verdict of a rule independently of order, of spelling, of loaded modules and of the
// comment, so that a rule as we write it equals the same rule as iptables-save prints it.
func canonical(words []string) string {
	var parts []string
	not := ""
	for i := 0; i < len(words); i++ {
		w := words[i]
		if w == "!" {
			not = "!"
			continue
		}
		value := ""
		if i+1 < len(words) && (w == "--comment" || !isOption(words[i+1])) {
			i++
			value = words[i]
		}
		switch w {
		case "-m", "--comment":
			not = ""
			continue
		case "-s", "-d":
			p, err := netip.ParsePrefix(value)
			if a, aerr := netip.ParseAddr(value); err != nil && aerr == nil {
				p = netip.PrefixFrom(a, a.BitLen())
			}
			if p.IsValid() {
				value = p.String()
				if p.Bits() == 0 && not == "" {
					continue // iptables-save leaves it out
				}
			}
		case "-i", "-o":
			if value == "+" && not == "" {
				continue // every interface: iptables-save leaves it out
			}
		case "--dports":
			w = "--dport"
		case "--uid-owner":
			value = strings.ReplaceAll(value, ":", "-")
		case "--log-level":
			if value == "4" {
				continue // the default, left out by iptables-save
			}
		}
		parts = append(parts, not+w+"="+value)
		not = ""
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

func isOption(w string) bool { return w == "!" || len(w) > 1 && w[0] == '-' }
