//go:build linux

package nftables

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/nftables/expr"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// backend is our name among all backends.
const backend = "nftables"

// acceptPolicy lets packets pass that no rule decides about.
const acceptPolicy = 1

// compare lists how the kernel differs from the tables of a plan.
func compare(now map[uint8]*liveTable, want []table) ([]tp.Difference, error) {
	var out []tp.Difference
	for _, w := range want {
		t := now[w.family]
		if t == nil {
			out = append(out, tp.Difference{Backend: backend, Table: tableName, Problem: "the table " + w.familyName() + " " + tableName + " is missing"})
			continue
		}
		d, err := compareTable(t, w)
		if err != nil {
			return nil, err
		}
		out = append(out, d...)
	}
	for _, family := range families {
		if now[family] != nil && !slices.ContainsFunc(want, func(w table) bool { return w.family == family }) {
			name := table{family: family}.familyName() + " " + tableName
			out = append(out, tp.Difference{Backend: backend, Table: tableName, Problem: "the table " + name + " is not in the plan"})
		}
	}
	return out, nil
}

func compareTable(now *liveTable, want table) ([]tp.Difference, error) {
	var out []tp.Difference
	if now.flags != 0 {
		out = append(out, tp.Difference{Backend: backend, Table: tableName, Problem: "the table is switched off or belongs to another process"})
	}
	e := &encoder{family: want.family}
	for _, c := range want.chains {
		if c.isLabel() {
			continue
		}
		at := tp.Difference{Backend: backend, Table: c.table, Chain: c.in}
		live := now.chain(c.name)
		if live == nil {
			at.Problem = "the chain " + c.name + " is missing"
			out = append(out, at)
			continue
		}
		if !c.hooked(live) {
			at.Problem = "the chain " + c.name + " is entered at another place or by another policy"
			out = append(out, at)
		}
		d, err := compareRules(live.rules, c, e, at)
		if err != nil {
			return nil, err
		}
		out = append(out, d...)
	}
	for _, c := range now.chains {
		if !strings.HasPrefix(c.name, labelPrefix) && !slices.ContainsFunc(want.chains, func(w chain) bool { return w.name == c.name }) {
			out = append(out, tp.Difference{Backend: backend, Table: tableName, Chain: c.name, Problem: "the chain is not in the plan"})
		}
	}
	if len(out) > 0 && !now.labelled(want) {
		out = append([]tp.Difference{{Backend: backend, Table: tableName, Problem: "the table was made for another plan"}}, out...)
	}
	return out, nil
}

func (c chain) isLabel() bool { return strings.HasPrefix(c.name, labelPrefix) }

// hooked reports whether the kernel enters the chain where it should.
func (c chain) hooked(live *liveChain) bool {
	if c.hook == nil || live.hook == nil {
		return c.hook == live.hook
	}
	return *c.hook == *live.hook && live.policy == acceptPolicy
}

// labelled reports whether the table says that it was made for this plan.
func (t *liveTable) labelled(want table) bool {
	return t.chain(want.chains[len(want.chains)-1].name) != nil
}

func compareRules(now []liveRule, c chain, e *encoder, at tp.Difference) ([]tp.Difference, error) {
	var out []tp.Difference
	rest := slices.Clone(now)
	same := len(now) == len(c.rules)
	complete := true
	for i, r := range c.rules {
		meaning, err := e.meaning(r)
		if err != nil {
			return nil, err
		}
		same = same && now[i].meaning == meaning
		found := slices.IndexFunc(rest, func(l liveRule) bool { return l.meaning == meaning })
		if found >= 0 {
			rest[found].meaning = "" // of no rule: every rule does something
			continue
		}
		complete = false
		for _, id := range r.ids {
			d := at
			d.Family, d.Rule, d.Problem = r.family, id, "the rule is missing"
			out = append(out, d)
		}
	}
	for _, l := range rest {
		if l.meaning != "" {
			d := at
			d.Rule, d.Problem = fmt.Sprintf("handle %d", l.handle), "the rule is not in the plan"
			out, complete = append(out, d), false
		}
	}
	if complete && !same {
		at.Problem = "the rules are in another order"
		out = append(out, at)
	}
	return out, nil
}

// meaning is what a rule does, in the form in which it is read.
func (e *encoder) meaning(r rule) (string, error) {
	known := len(e.sets)
	list := e.rule(r)
	names := map[string]string{}
	for _, x := range list {
		if l, ok := x.(*expr.Lookup); ok {
			l.SetName = strconv.FormatUint(uint64(l.SetID), 10)
			names[l.SetName] = e.sets[l.SetID-1].contents()
		}
	}
	e.sets = e.sets[:known]
	b, err := marshal(e.family, list)
	if err != nil {
		return "", err
	}
	return describe(b, names), nil
}
