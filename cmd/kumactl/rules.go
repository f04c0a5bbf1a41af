package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// printPolicies prints the policies that select a proxy, by what they attach to (contract controlplane.md §2.3).
func printPolicies(w io.Writer, body []byte) error {
	type attachment struct {
		Type     string            `json:"type"`
		Name     string            `json:"name"`
		Service  string            `json:"service"`
		Policies map[string][]head `json:"matchedPolicies"`
	}
	var answer struct {
		Kind  string       `json:"kind"`
		Items []attachment `json:"items"`
		// A gateway has its policies beside the attachments.
		Policies map[string]head `json:"policies"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(answer.Policies) > 0 {
		own := attachment{Type: "gateway", Policies: map[string][]head{}}
		for kind, p := range answer.Policies {
			own.Policies[kind] = []head{p}
		}
		answer.Items = append([]attachment{own}, answer.Items...)
	}
	for i, item := range answer.Items {
		if i > 0 {
			fmt.Fprintln(w)
		}
		title := strings.ToUpper(item.Type)
		if item.Name != "" {
			title += " " + item.Name
		}
		if item.Service != "" && item.Service != item.Name {
			title += "(" + item.Service + ")"
		}
		fmt.Fprintf(w, "%s:\n", printable(title))
		for _, kind := range slices.Sorted(maps.Keys(item.Policies)) {
			fmt.Fprintf(w, "  %s:\n", kind)
			for _, p := range item.Policies[kind] {
				fmt.Fprintf(w, "    %s\n", printable(p.Name))
			}
		}
	}
	return nil
}

// ruleSet is what the policies of one kind make for a proxy (contract policies.md §4.8).
type ruleSet struct {
	Type      string `json:"type"`
	ProxyRule *struct {
		Conf   json.RawMessage `json:"conf"`
		Origin []head          `json:"origin"`
	} `json:"proxyRule"`
	ToRules         []rule `json:"toRules"`
	ToResourceRules []struct {
		Resource head              `json:"resourceMeta"`
		Section  string            `json:"resourceSectionName"`
		Conf     []json.RawMessage `json:"conf"`
		Origin   []struct {
			Resource head `json:"resourceMeta"`
			Index    int  `json:"ruleIndex"`
		} `json:"origin"`
	} `json:"toResourceRules"`
	FromRules []struct {
		Inbound struct {
			Port uint32            `json:"port"`
			Tags map[string]string `json:"tags"`
		} `json:"inbound"`
		Rules []rule `json:"rules"`
	} `json:"fromRules"`
	Warnings []string `json:"warnings"`
}

type rule struct {
	Matchers []struct {
		Key   string `json:"key"`
		Value string `json:"value"`
		Not   bool   `json:"not"`
	} `json:"matchers"`
	Conf   json.RawMessage `json:"conf"`
	Origin []head          `json:"origin"`
}

// whom names the peers that a rule is for.
func (r *rule) whom() string {
	parts := make([]string, len(r.Matchers))
	for i, m := range r.Matchers {
		parts[i] = m.Key + map[bool]string{false: "=", true: "!="}[m.Not] + m.Value
	}
	if len(parts) == 0 {
		return "anybody"
	}
	return strings.Join(parts, " ")
}

// printRules prints for each kind of policy what is in force, and the policies that it comes from.
func printRules(w io.Writer, body []byte) error {
	var answer struct {
		Resource head      `json:"resource"`
		Rules    []ruleSet `json:"rules"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	p := rulePrinter{w: w}
	p.line(0, "%s %s of mesh %s", answer.Resource.Type, answer.Resource.Name, answer.Resource.Mesh)
	for _, set := range answer.Rules {
		p.line(0, "")
		p.line(0, "%s", set.Type)
		for _, text := range set.Warnings {
			p.line(1, "warning: %s", text)
		}
		if r := set.ProxyRule; r != nil {
			p.rule("whole proxy", r.Conf, origins(r.Origin))
		}
		for _, r := range set.ToResourceRules {
			title := "to " + r.Resource.Type + " " + r.Resource.Name
			if r.Section != "" {
				title += ", port " + r.Section
			}
			from := make([]string, len(r.Origin))
			for i, o := range r.Origin {
				from[i] = fmt.Sprintf("%s to[%d]", o.Resource.Name, o.Index)
			}
			for _, conf := range r.Conf {
				p.rule(title, conf, from)
			}
		}
		for _, r := range set.ToRules {
			p.rule("to "+r.whom(), r.Conf, origins(r.Origin))
		}
		for _, in := range set.FromRules {
			for _, r := range in.Rules {
				p.rule(fmt.Sprintf("inbound %d, from %s", in.Inbound.Port, r.whom()), r.Conf, origins(r.Origin))
			}
		}
	}
	return p.err
}

func origins(list []head) []string {
	out := make([]string, len(list))
	for i, o := range list {
		out[i] = o.Name
	}
	return out
}

// rulePrinter keeps the first error.
type rulePrinter struct {
	w   io.Writer
	err error
}

func (p *rulePrinter) line(level int, format string, values ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, "%s%s\n", strings.Repeat("  ", level), printable(fmt.Sprintf(format, values...)))
	}
}

func (p *rulePrinter) rule(title string, conf json.RawMessage, from []string) {
	p.line(1, "%s", title)
	p.line(2, "by %s", strings.Join(from, ", "))
	text, err := yaml.JSONToYAML(conf)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("read the answer: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		p.line(2, "%s", strings.TrimRight(line, "\n"))
	}
}
