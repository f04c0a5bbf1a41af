package transparentproxy

import "fmt"

// Difference is one way in which the kernel is not as a plan says.
type Difference struct {
	// Backend is where it was found: nftables, iptables-nft or iptables-legacy.
	Backend string `json:"backend"`
	// Family is 0 when it is not of one family.
	Family Family `json:"family,omitempty"`
	// Table, Chain and Rule say where; Rule is the plan's rule id, or the rule as the backend prints it when the plan does not
	// have it. They may be empty.
	Table string `json:"table,omitempty"`
	Chain string `json:"chain,omitempty"`
	Rule  string `json:"rule,omitempty"`
	// Problem is a short sentence.
	Problem string `json:"problem"`
}

// String is for people.
func (d Difference) String() string { return d.Place() + ": " + d.Problem }

// Place says where, from the backend down to the rule.
func (d Difference) Place() string {
	where := d.Backend
	if d.Family != 0 {
		where = fmt.Sprintf("%v (%s)", d.Family, d.Backend)
	}
	for _, s := range []string{d.Table, d.Chain, d.Rule} {
		if s != "" {
			where += " " + s
		}
	}
	return where
}
