package transparentproxy

import (
	"net/netip"
	"strconv"
	"strings"
)

// CommentPrefix begins the comment of every rule of ours and of Kuma's.
const CommentPrefix = "kuma/mesh/transparent/proxy/"

// maxComment is what the kernel's comment match holds, less one for Kuma's cut (contract transparentproxy.md §2).
const maxComment = 254

// TextOptions says how a plan is printed.
type TextOptions struct {
	// Verbose uses long option names, headings and blank lines.
	Verbose bool
	// NoComments leaves the rules' comments out.
	NoComments bool
}

// Text prints the plan as input of iptables-restore, family by family, in exactly the form of Kuma's dry run.
func (p *Plan) Text(o TextOptions) string {
	var b strings.Builder
	for i, f := range p.Families {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString("### " + f.Family.String() + " ###\n\n")
		for j, t := range f.Tables {
			if o.Verbose && j > 0 {
				b.WriteString("\n")
			}
			t.print(&b, o)
		}
	}
	return b.String()
}

func (t Table) print(b *strings.Builder, o TextOptions) {
	heading := func(s string) {
		if o.Verbose {
			b.WriteString("\n# " + s + ":\n")
		}
	}
	b.WriteString("* " + t.Name + "\n")
	owned := false
	for _, c := range t.Chains {
		if !c.Owned {
			continue
		}
		if !owned {
			heading("Custom Chains")
			owned = true
		}
		w := &text{verbose: o.Verbose}
		w.opt("-N", "--new-chain", c.Name)
		b.WriteString(w.String() + "\n")
	}
	heading("Rules")
	for _, c := range t.Chains {
		for _, r := range c.Rules {
			b.WriteString(r.line(c.Name, o) + "\n")
		}
	}
	if o.Verbose {
		b.WriteString("\n")
	}
	b.WriteString("COMMIT\n")
}

// Line is the rule as one line of iptables-restore that adds it to the chain, with its comment.
func (r Rule) Line(chain string) string { return r.line(chain, TextOptions{}) }

func (r Rule) line(chain string, o TextOptions) string {
	w := &text{verbose: o.Verbose}
	if r.Position > 0 {
		w.opt("-I", "--insert", chain, strconv.Itoa(r.Position))
	} else {
		w.opt("-A", "--append", chain)
	}
	if !o.NoComments {
		w.opt("-m", "--match", "comment")
		w.opt("--comment", "--comment", strconv.Quote(r.FullComment()))
	}
	r.spec(w)
	return w.String()
}

// FullComment is the comment as it stands in the kernel.
func (r Rule) FullComment() string {
	c := CommentPrefix + r.Comment
	return c[:min(len(c), maxComment)]
}

// Spec is the rule's matches and verdict in short option names, without chain and comment.
func (r Rule) Spec() string {
	w := &text{}
	r.spec(w)
	return w.String()
}

func (r Rule) spec(w *text) {
	for _, m := range r.Match {
		m.match(w)
	}
	r.Verdict.verdict(w)
}

// text collects the words of one line.
type text struct {
	verbose bool
	words   []string
}

func (w *text) String() string { return strings.Join(w.words, " ") }

func (w *text) opt(short, long string, values ...string) {
	if w.verbose {
		short = long
	}
	w.words = append(append(w.words, short), values...)
}

func (w *text) not(not bool) {
	if not {
		w.words = append(w.words, "!")
	}
}

func (w *text) jump(target string) { w.opt("-j", "--jump", target) }

func address(p netip.Prefix, mask bool) string {
	if p.IsSingleIP() && !mask {
		return p.Addr().String()
	}
	return p.String()
}

func (m Source) match(w *text) { w.opt("-s", "--source", address(m.Prefix, m.Mask)) }

func (m Destination) match(w *text) {
	w.not(m.Not)
	w.opt("-d", "--destination", address(m.Prefix, m.Mask))
}

func (m InInterface) match(w *text)  { w.opt("-i", "--in-interface", m.Name) }
func (m OutInterface) match(w *text) { w.opt("-o", "--out-interface", m.Name) }

func (m Protocol) match(w *text) {
	if m.Module {
		w.opt("-m", "--match", m.Name)
	}
	w.opt("-p", "--protocol", m.Name)
}

func (m SourcePort) match(w *text) {
	w.opt("--sport", "--source-port", strconv.Itoa(int(m.Port)))
}

func (m DestinationPort) match(w *text) {
	w.not(m.Not)
	w.opt("--dport", "--destination-port", m.Range.String())
}

func (m Multiport) match(w *text) {
	w.opt("-m", "--match", "multiport")
	w.opt("-p", "--protocol", m.Protocol)
	w.opt("--dport", "--destination-ports", m.Ports.String())
}

func (m Owner) match(w *text) {
	w.opt("-m", "--match", "owner")
	w.not(m.Not)
	uids := strconv.FormatUint(uint64(m.UIDs.First), 10)
	if m.UIDs.Last != m.UIDs.First {
		uids += ":" + strconv.FormatUint(uint64(m.UIDs.Last), 10)
	}
	w.opt("--uid-owner", "--uid-owner", uids)
}

func (InvalidState) match(w *text) {
	w.opt("-m", "--match", "conntrack")
	w.opt("--ctstate", "--ctstate", "INVALID")
}

func (v Jump) verdict(w *text) { w.jump(v.Chain) }
func (Return) verdict(w *text) { w.jump("RETURN") }
func (Drop) verdict(w *text)   { w.jump("DROP") }

func (v Redirect) verdict(w *text) {
	w.jump("REDIRECT")
	w.opt("--to-ports", "--to-ports", strconv.Itoa(int(v.Port)))
}

func (v Zone) verdict(w *text) {
	w.jump("CT")
	w.opt("--zone", "--zone", strconv.Itoa(int(v.ID)))
}

func (v Log) verdict(w *text) {
	w.jump("LOG")
	w.opt("--log-prefix", "--log-prefix", v.Prefix)
	w.opt("--log-level", "--log-level", strconv.Itoa(int(v.Level)))
}
