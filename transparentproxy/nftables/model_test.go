//go:build linux

package nftables

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/planmodel"
)

// walkTable is what nf_tables does with our rules.
func walkTable(t table, name string, p planmodel.Packet, o *planmodel.Outcome) (final bool) {
	at := slices.IndexFunc(t.chains, func(c chain) bool { return c.name == name })
	if at < 0 {
		return false
	}
	for _, r := range t.chains[at].rules {
		if r.family != 0 && r.family != p.Family || r.protocol != "" && r.protocol != p.Protocol ||
			slices.ContainsFunc(r.conditions, func(c condition) bool { return !c.matches(p) }) {
			continue
		}
		switch v := r.verdict.(type) {
		case tp.Return:
			return false
		case tp.Jump:
			if walkTable(t, v.Chain, p, o) {
				return true
			}
		default:
			if o.Do(v) {
				return true
			}
		}
	}
	return false
}

func (c condition) matches(p planmodel.Packet) bool {
	port := func(n uint16) string { return string(binary.BigEndian.AppendUint16(nil, n)) }
	var value string
	switch c.field {
	case inInterface:
		return planmodel.Matches(tp.InInterface{Name: c.name}, p)
	case outInterface:
		return planmodel.Matches(tp.OutInterface{Name: c.name}, p)
	case invalidState:
		return p.Invalid
	case source:
		value = string(p.From.Addr().AsSlice())
	case destination:
		value = string(p.To.Addr().AsSlice())
	case sourcePort:
		value = port(p.From.Port())
	case destinationPort:
		value = port(p.To.Port())
	case owner:
		if p.Nobody { // `meta skuid` has no value, which ends the rule whatever it asks
			return false
		}
		value = string(binary.BigEndian.AppendUint32(nil, p.UID))
	}
	if len(value) != len(c.spans[0].first) { // of the other family
		return false
	}
	return slices.ContainsFunc(c.spans, func(s span) bool { return s.first <= value && value <= s.last }) != c.not
}

// TestTableDoesWhatThePlanSays compares, for random plans and packets, what iptables would do with the plan and nf_tables
// with the table: joining families and rules, leaving out conditions and the order must not change anything.
func TestTableDoesWhatThePlanSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plan := planmodel.AnyPlan(t)
		joint := must(compile(plan, unix.NFPROTO_INET))
		split := must(compile(plan, 0))
		for range 60 {
			p := planmodel.AnyPacket(t, plan)
			for _, c := range []struct{ table, chain string }{
				{tp.TableRaw, tp.ChainPrerouting},
				{tp.TableRaw, tp.ChainOutput},
				{tp.TableNAT, tp.ChainPrerouting},
				{tp.TableNAT, tp.ChainOutput},
				{tp.TableMangle, tp.ChainPrerouting},
			} {
				q := p
				if c.chain == tp.ChainOutput {
					q.In = ""
				} else {
					q.Out, q.Nobody = "", true
				}
				want := planmodel.Walk(plan, c.table, c.chain, q)
				name := c.table + "_" + strings.ToLower(c.chain)
				var got, gotSplit planmodel.Outcome
				walkTable(joint[0], name, q, &got)
				for _, s := range split {
					if (s.family == unix.NFPROTO_IPV6) == (q.Family == tp.IPv6) {
						walkTable(s, name, q, &gotSplit)
					}
				}
				if got != want || gotSplit != want {
					t.Fatalf("%s, %+v:\ngot  %+v\nsplit %+v\nwant %+v\n%s\n%s", name, q, got, gotSplit, want, joint[0].text(), plan.Text(tp.TextOptions{NoComments: true}))
				}
			}
		}
	})
}
