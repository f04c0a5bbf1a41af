package transparentproxy

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strconv"
	"strings"
)

// The JSON form of a plan is documented in docs/reference/transparent-proxy.md; programs rely on it.
type (
	planJSON struct {
		Families  []familyJSON   `json:"families"`
		Addresses []netip.Prefix `json:"addresses"`
		Warnings  []string       `json:"warnings"`
	}
	familyJSON struct {
		Family string      `json:"family"`
		Tables []tableJSON `json:"tables"`
	}
	tableJSON struct {
		Table  string      `json:"table"`
		Chains []chainJSON `json:"chains"`
	}
	chainJSON struct {
		Chain string     `json:"chain"`
		Owned bool       `json:"owned"`
		Rules []ruleJSON `json:"rules"`
	}
	ruleJSON struct {
		ID      string      `json:"id"`
		Insert  int         `json:"insert,omitempty"`
		Match   []condition `json:"match"`
		Verdict verdictJSON `json:"verdict"`
		Comment string      `json:"comment"`
	}
	verdictJSON struct {
		Action string `json:"action"`
		Chain  string `json:"chain,omitempty"`
		Port   uint16 `json:"port,omitempty"`
		Zone   uint16 `json:"zone,omitempty"`
		Prefix string `json:"prefix,omitempty"`
		Level  *uint8 `json:"level,omitempty"`
	}
)

// condition is a match in words: what of the packet is, or is not, what.
type condition struct {
	Field string `json:"field"`
	Not   bool   `json:"not,omitempty"`
	Value string `json:"value"`
}

// Fields of a condition.
const (
	fieldSource       = "source"
	fieldDestination  = "destination"
	fieldInInterface  = "inInterface"
	fieldOutInterface = "outInterface"
	fieldProtocol     = "protocol"
	fieldSourcePort   = "sourcePort"
	fieldPort         = "destinationPort"
	fieldUID          = "uid"
	fieldState        = "connectionState"
)

// JSON prints the plan for programs, indented.
func (p *Plan) JSON() (string, error) {
	out := planJSON{
		Families:  []familyJSON{},
		Addresses: append([]netip.Prefix{}, p.Addresses...), // [] rather than null
		Warnings:  append([]string{}, p.Warnings...),
	}
	for _, f := range p.Families {
		fj := familyJSON{f.Family.String(), []tableJSON{}}
		for _, t := range f.Tables {
			tj := tableJSON{Table: t.Name}
			for _, c := range t.Chains {
				cj := chainJSON{Chain: c.Name, Owned: c.Owned}
				for _, r := range c.Rules {
					cj.Rules = append(cj.Rules, ruleJSON{r.ID, r.Position, r.conditions(), verdictOf(r.Verdict), r.Comment})
				}
				tj.Chains = append(tj.Chains, cj)
			}
			fj.Tables = append(fj.Tables, tj)
		}
		out.Families = append(out.Families, fj)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(out)
	return b.String(), err
}

func verdictOf(v Verdict) verdictJSON {
	switch v := v.(type) {
	case Jump:
		return verdictJSON{Action: "jump", Chain: v.Chain}
	case Redirect:
		return verdictJSON{Action: "redirect", Port: v.Port}
	case Zone:
		return verdictJSON{Action: "zone", Zone: v.ID}
	case Log:
		return verdictJSON{Action: "log", Prefix: v.Prefix, Level: &v.Level}
	case Drop:
		return verdictJSON{Action: "drop"}
	default:
		return verdictJSON{Action: "return"}
	}
}

// conditions takes the matches apart; all must hold. No condition is everything.
func (r Rule) conditions() []condition {
	out := []condition{}
	add := func(field string, not bool, value string) { out = append(out, condition{field, not, value}) }
	for _, m := range r.Match {
		switch m := m.(type) {
		case Source:
			add(fieldSource, false, m.Prefix.String())
		case Destination:
			add(fieldDestination, m.Not, m.Prefix.String())
		case InInterface:
			add(fieldInInterface, false, m.Name)
		case OutInterface:
			add(fieldOutInterface, false, m.Name)
		case Protocol:
			add(fieldProtocol, false, m.Name)
		case SourcePort:
			add(fieldSourcePort, false, strconv.Itoa(int(m.Port)))
		case DestinationPort:
			add(fieldPort, m.Not, m.Range.words())
		case Multiport:
			add(fieldProtocol, false, m.Protocol)
			add(fieldPort, false, strings.ReplaceAll(m.Ports.String(), ":", "-"))
		case Owner:
			add(fieldUID, m.Not, m.UIDs.words())
		case InvalidState:
			add(fieldState, false, "invalid")
		}
	}
	return out
}
