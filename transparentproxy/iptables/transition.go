//go:build linux

package iptables

import (
	"fmt"
	"slices"
	"strings"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// desired is what should be there of ours in one family, by table. The zero value is nothing.
type desired map[string]desiredTable

type desiredTable struct {
	chains []string // ours
	rules  []desiredRule
}

type desiredRule struct {
	chain    string
	position int // 0 appends
	args     string
}

// desiredOf is what a plan asks for; a nil plan asks for nothing.
func desiredOf(f *tp.FamilyPlan, noComments bool) desired {
	d := desired{}
	if f == nil {
		return d
	}
	for _, t := range f.Tables {
		var dt desiredTable
		for _, c := range t.Chains {
			if c.Owned {
				dt.chains = append(dt.chains, c.Name)
			}
			for _, r := range c.Rules {
				args := r.Spec()
				if !noComments {
					args = fmt.Sprintf("-m comment --comment %s %s", quote(r.FullComment()), args)
				}
				dt.rules = append(dt.rules, desiredRule{c.Name, r.Position, args})
			}
		}
		d[t.Name] = dt
	}
	return d
}

// desiredBefore is what was there of ours, for going back to it after a failure.
func desiredBefore(rs *ruleset) desired {
	d := desired{}
	for _, name := range tables {
		t := rs.table(name)
		dt := desiredTable{chains: t.ownChains(name)}
		for _, chain := range t.builtin {
			for i, r := range t.in(chain) {
				if r.own {
					dt.rules = append(dt.rules, desiredRule{chain, i + 1, r.args})
				}
			}
		}
		for _, chain := range dt.chains {
			for _, r := range t.in(chain) {
				dt.rules = append(dt.rules, desiredRule{chain, 0, r.args})
			}
		}
		d[name] = dt
	}
	return d
}

// transition writes the input of `iptables-restore --noflush` that leads from what is there to what should be. Per table
// it is one transaction of the kernel: our chains are refilled and our rules exchanged without a moment in between, and
// nothing else is named. It is empty when there is nothing of ours before or after.
func transition(now *ruleset, want desired) string {
	var b strings.Builder
	for _, name := range tables {
		t, w := now.table(name), want[name]
		has, old := t.ownChains(name), t.ownBuiltin()
		if len(has) == 0 && len(old) == 0 && len(w.rules) == 0 && len(w.chains) == 0 {
			continue
		}
		b.WriteString("*" + name + "\n")
		for _, c := range ownChains {
			if slices.Contains(has, c) || slices.Contains(w.chains, c) {
				b.WriteString(":" + c + " - [0:0]\n") // makes the chain or empties it
			}
		}
		count := map[string]int{} // rules in each built-in chain
		for _, r := range t.rules {
			count[r.chain]++
		}
		for _, r := range old {
			b.WriteString("-D " + r.chain + " " + r.args + "\n")
			count[r.chain]--
		}
		for _, r := range w.rules {
			if r.position > 0 {
				// Others may have removed rules since the position was taken.
				fmt.Fprintf(&b, "-I %s %d %s\n", r.chain, min(r.position, count[r.chain]+1), r.args)
			} else {
				b.WriteString("-A " + r.chain + " " + r.args + "\n")
			}
			count[r.chain]++
		}
		for _, c := range has {
			if !slices.Contains(w.chains, c) {
				b.WriteString("-X " + c + "\n")
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

// quote writes a word as iptables-restore reads it.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
