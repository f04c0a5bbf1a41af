package transparentproxy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Table tells people in words what happens to which traffic, per family and in the order in which a packet meets it.
func (p *Plan) Table() string {
	var b strings.Builder
	for i := range p.Families {
		f := explainer{family: &p.Families[i]}
		for _, hook := range []struct{ chain, what string }{
			{ChainPrerouting, "traffic that arrives at this host"},
			{ChainOutput, "traffic that this host sends"},
		} {
			f.hook(hook.chain)
			if len(f.rows) == 0 {
				continue
			}
			if b.Len() > 0 {
				b.WriteString("\n")
			}
			fmt.Fprintf(&b, "%v: %s\n", f.family.Family, hook.what)
			f.write(&b)
		}
	}
	for _, a := range p.Addresses {
		fmt.Fprintf(&b, "\nThe loopback interface gets the address %v, from which Envoy connects to applications.\n", a)
	}
	return b.String()
}

// explainer puts the rules of one family into words.
type explainer struct {
	family *FamilyPlan
	rows   [][4]string // number, traffic, what happens to it, rule
}

func (e *explainer) write(b *strings.Builder) {
	var columns strings.Builder
	w := tabwriter.NewWriter(&columns, 0, 0, 2, ' ', 0)
	fmt.Fprint(w, "STEP\tTRAFFIC\tWHAT HAPPENS\tRULE\n")
	for _, r := range e.rows {
		fmt.Fprintf(w, "%s\n", strings.Join(r[:], "\t"))
	}
	_ = w.Flush() // a builder never fails
	for line := range strings.Lines(columns.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

func (e *explainer) find(table, chain string) *Chain {
	for _, t := range e.family.Tables {
		if t.Name != table {
			continue
		}
		for i := range t.Chains {
			if t.Chains[i].Name == chain {
				return &t.Chains[i]
			}
		}
	}
	return nil
}

// hook lists what a built-in chain does in all tables, in the kernel's order.
func (e *explainer) hook(chain string) {
	e.rows = nil
	n := 0
	step := func(what [3]string) {
		n++
		e.rows = append(e.rows, [4]string{strconv.Itoa(n), what[0], what[1], what[2]})
	}
	for _, table := range []string{TableRaw, TableMangle, TableNAT} {
		c := e.find(table, chain)
		if c == nil {
			continue
		}
		// Inserted rules stand before those of others, the rest behind.
		rules := slices.Clone(c.Rules)
		slices.SortStableFunc(rules, func(a, b Rule) int { return last(a) - last(b) })
		for i, r := range rules {
			if last(r) == 1 && (i == 0 || last(rules[i-1]) == 0) {
				step([3]string{"everything", "first meets rules of others in " + table + " " + chain})
			}
			step([3]string{r.traffic(), e.happens(table, r), table + " " + chain + " " + r.ID})
			if j, ok := r.Verdict.(Jump); ok {
				e.below(n, table, j.Chain)
			}
		}
	}
	if n > 0 {
		step([3]string{"everything else", "is left alone"})
	}
}

// last is 1 for rules that are appended.
func last(r Rule) int {
	if r.Position > 0 {
		return 0
	}
	return 1
}

// below lists the rules of one of our chains as steps of step n.
func (e *explainer) below(n int, table, chain string) {
	c := e.find(table, chain)
	if c == nil || e.redirects(chain) != "" {
		return
	}
	for i, r := range c.Rules {
		e.rows = append(e.rows, [4]string{fmt.Sprintf("%d.%d", n, i+1), r.traffic(), e.happens(table, r), table + " " + chain + " " + r.ID})
	}
}

// happens says what a rule does.
func (e *explainer) happens(table string, r Rule) string {
	switch v := r.Verdict.(type) {
	case Jump:
		if to := e.redirects(v.Chain); to != "" {
			return "goes to " + to
		}
		if e.find(table, v.Chain) != nil {
			return "is looked at in the steps below"
		}
		return "goes on as the chain " + v.Chain + " says"
	case Redirect:
		return "goes to " + e.port(v.Port)
	case Zone:
		return fmt.Sprintf("is tracked in conntrack zone %d", v.ID)
	case Log:
		return "is logged, and goes on"
	case Drop:
		return "is dropped"
	default:
		return "is left alone"
	}
}

// redirects says where a chain sends all TCP, if that is all it does.
func (e *explainer) redirects(chain string) string {
	if chain != ChainInboundRedirect && chain != ChainOutboundRedirect {
		return ""
	}
	if c := e.find(TableNAT, chain); c != nil && len(c.Rules) == 1 {
		if v, ok := c.Rules[0].Verdict.(Redirect); ok {
			return e.port(v.Port)
		}
	}
	return ""
}

// port names a port by who listens there.
func (e *explainer) port(port uint16) string {
	who := "kuma-dp, DNS"
	for chain, name := range map[string]string{ChainInboundRedirect: "Envoy, inbound", ChainOutboundRedirect: "Envoy, outbound"} {
		if c := e.find(TableNAT, chain); c != nil && slices.ContainsFunc(c.Rules, func(r Rule) bool { return r.Verdict == Redirect{port} }) {
			who = name
		}
	}
	return fmt.Sprintf("port %d (%s)", port, who)
}

// traffic says what a rule is about.
func (r Rule) traffic() string {
	subject := "everything"
	var parts []string
	for _, c := range r.conditions() {
		not := ""
		if c.Not {
			not = "not "
		}
		switch c.Field {
		case fieldProtocol:
			subject = strings.ToUpper(c.Value)
		case fieldState:
			subject = "a packet of no connection"
		case fieldSource:
			parts = append(parts, "from "+addressWords(c.Value))
		case fieldDestination:
			parts = append(parts, not+"to "+addressWords(c.Value))
		case fieldInInterface:
			parts = append(parts, "in through "+c.Value)
		case fieldOutInterface:
			parts = append(parts, "out through "+c.Value)
		case fieldSourcePort:
			parts = append(parts, "from port "+c.Value)
		case fieldPort:
			parts = append(parts, not+"to port "+c.Value)
		case fieldUID:
			parts = append(parts, not+"of user "+c.Value)
		}
	}
	return strings.Join(append([]string{subject}, parts...), ", ")
}

// addressWords leaves out the length of a single address.
func addressWords(s string) string {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return s
	}
	return address(p, false)
}
