package transparentproxy

// NATRule is a rule of anybody in the nat table of iptables.
type NATRule struct {
	Family Family
	Chain  string
	// Target is the verdict or the chain that it jumps to.
	Target string
	// Text is the rule as iptables-save prints it, without the chain.
	Text string
}
