//go:build linux

package nftables

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// maxComment is how long a comment nft(8) takes.
const maxComment = 128

// Text prints the plan as input of nft(8) that does what Apply does: one transaction that replaces the table.
func Text(plan *tp.Plan) string {
	tables, err := compile(plan, unix.NFPROTO_INET)
	if err != nil { // not for a plan of NewPlan
		return "# " + strings.ReplaceAll(err.Error(), "\n", "\n# ") + "\n"
	}
	t := tables[0]
	name := t.familyName() + " " + tableName
	return "add table " + name + "\ndelete table " + name + "\n" + t.text()
}

func (t table) familyName() string {
	switch t.family {
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	default:
		return "inet"
	}
}

func (t table) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", t.familyName(), tableName)
	for i, c := range t.chains {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "\tchain %s {\n", c.name)
		if c.hook != nil {
			where := "prerouting"
			if c.hook.number == unix.NF_INET_LOCAL_OUT {
				where = "output"
			}
			fmt.Fprintf(&b, "\t\ttype %s hook %s priority %d; policy accept;\n", c.hook.kind, where, c.hook.priority)
		}
		for _, r := range c.rules {
			fmt.Fprintf(&b, "\t\t%s comment \"%s\"\n", r.text(), r.comment())
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// logLevels are syslog's, as nft(8) writes them.
var logLevels = []string{"emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"}

// text is the rule as nft(8) writes it, without its comment.
func (r rule) text() string {
	var words []string
	protocol := func() {
		if r.protocol != "" && !r.has(sourcePort) && !r.has(destinationPort) {
			words = append(words, "meta l4proto "+r.protocol)
		}
	}
	if r.family != 0 && !r.has(source) && !r.has(destination) {
		words = append(words, map[tp.Family]string{tp.IPv4: "meta nfproto ipv4", tp.IPv6: "meta nfproto ipv6"}[r.family])
	}
	asked := false
	for _, c := range r.conditions {
		if !asked && c.field > destination {
			protocol()
			asked = true
		}
		words = append(words, c.text(r.protocol))
	}
	if !asked {
		protocol()
	}
	switch v := r.verdict.(type) {
	case tp.Jump:
		words = append(words, "jump "+v.Chain)
	case tp.Return:
		words = append(words, "return")
	case tp.Redirect:
		words = append(words, fmt.Sprintf("redirect to :%d", v.Port))
	case tp.Zone:
		words = append(words, fmt.Sprintf("ct zone set %d", v.ID))
	case tp.Log:
		words = append(words, fmt.Sprintf("log prefix \"%s\" level %s", v.Prefix, logLevels[v.Level]))
	case tp.Drop:
		words = append(words, "drop")
	}
	return strings.Join(words, " ")
}

func (r rule) has(f field) bool {
	return slices.ContainsFunc(r.conditions, func(c condition) bool { return c.field == f })
}

// comment names the plan's rules, as many as fit.
func (r rule) comment() string {
	text := r.ids[0]
	for i, id := range r.ids[1:] {
		rest := fmt.Sprintf(" and %d more", len(r.ids)-i-1)
		last := i == len(r.ids)-2
		if more := text + ", " + id; last && len(more) <= maxComment || len(more)+len(rest) <= maxComment {
			text = more
			continue
		}
		text += rest
		break
	}
	return text[:min(len(text), maxComment)]
}
