//go:build linux

package iptables

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// Rules of built-in chains that have no comment, because comments were disabled, are known as ours in two ways: by the journal,
// which has them exactly, and otherwise by what they say, with the user and the ports that our chains tell. What others may
// as well have written is left, and named.

// has reports whether a rule of the journal is one that this tool may have written: a damaged journal must not make us
// remove something else.
func (t tool) has(r netns.BareRule) bool {
	return Flavour(r.Flavour) == t.flavour && r.Family == t.family && slices.Contains(ownPlaces[r.Table], r.Chain)
}

// bareRules lists the rules of built-in chains that a step puts there without comments.
func (s step) bareRules() []netns.BareRule {
	var out []netns.BareRule
	for _, table := range tables {
		for _, r := range s.want[table].rules {
			if slices.Contains(ownPlaces[table], r.chain) && !strings.Contains(r.args, "--comment") {
				out = append(out, netns.BareRule{
					Flavour: string(s.tool.flavour), Family: s.tool.family, Table: table, Chain: r.chain, Rule: canonical(strings.Fields(r.args)),
				})
			}
		}
	}
	return out
}

// claim marks as ours what the journal has, each entry once. Of two rules that are equal in every word nobody can tell whose
// is whose; one of them stays in the end.
func (rs *ruleset) claim(list []netns.BareRule) {
	for _, c := range list {
		t := rs.table(c.Table)
		for i := range t.rules {
			r := &t.rules[i]
			if !r.own && r.chain == c.Chain && r.after("--comment") == "" && canonical(r.words) == c.Rule {
				r.own = true
				break
			}
		}
	}
}

// recognise marks the rules of built-in chains that are ours by their own words.
func (rs *ruleset) recognise() {
	bare, doubtful := rs.shapes()
	for _, name := range tables {
		t := rs.table(name)
		for i := range t.rules {
			r := &t.rules[i]
			if !slices.Contains(t.builtin, r.chain) {
				continue
			}
			place := name + " " + r.chain
			r.own = r.named(name) || r.matches(bare[place])
			r.doubtful = !r.own && r.matches(doubtful[place])
		}
	}
}

func (r savedRule) matches(shapes []*regexp.Regexp) bool {
	if len(shapes) == 0 || r.after("--comment") != "" {
		return false
	}
	text := canonical(r.words)
	if slices.Contains(r.words, "multiport") {
		text = "multiport " + text
	}
	return slices.ContainsFunc(shapes, func(s *regexp.Regexp) bool { return s.MatchString(text) })
}

// shapes are what rules of ours without comments look like, by table and chain, in their canonical form. There are none unless
// our chains have rules, and none of them a comment. doubtful are those that anybody may have.
func (rs *ruleset) shapes() (bare, doubtful map[string][]*regexp.Regexp) {
	nat := rs.table(tp.TableNAT)
	ruled := false
	for _, chain := range ownChains {
		for _, r := range nat.in(chain) {
			if strings.HasPrefix(r.after("--comment"), tp.CommentPrefix) {
				return nil, nil
			}
			ruled = true
		}
	}
	if !ruled {
		return nil, nil
	}
	uid := nat.told(tp.ChainOutbound, `^--uid-owner=(\d+) -j=RETURN$`, `\d+`)
	dns := nat.told(tp.ChainOutbound, `^--dport=53 --to-ports=(\d+)(?: -d=\S+)? -j=REDIRECT -p=tcp$`, `\d+`)
	out := nat.told(tp.ChainOutboundRedirect, `^--to-ports=(\d+) -j=REDIRECT -p=tcp$`, `\d+`)
	compile := func(list ...string) []*regexp.Regexp {
		var res []*regexp.Regexp
		for _, s := range list {
			res = append(res, regexp.MustCompile("^"+strings.NewReplacer("<uid>", uid, "<dns>", dns, "<out>", out).Replace(s)+"$"))
		}
		return res
	}
	log := func(chain string) string {
		return fmt.Sprintf(`(--log-level=\d )?--log-prefix=%s: -j=LOG`, chain)
	}
	bare = map[string][]*regexp.Regexp{
		"raw PREROUTING": compile(`--sport=53 --zone=1 -j=CT -p=udp( -s=\S+)?`),
		"raw OUTPUT": compile(
			`--dport=53( --uid-owner=\S+)? --zone=1( -d=\S+)? -j=CT -p=udp`,
			`--sport=<dns> --uid-owner=<uid> --zone=2 -j=CT -p=udp`,
			`--dport=53 --zone=2( -d=\S+)? -j=CT -p=udp`,
			`--zone=1 -d=127\.0\.0\.1/32 -j=CT -p=udp -s=127\.\S+`,
			`--zone=1 -d=::1/128 -j=CT -p=udp -s=::1/128`,
		),
		"nat PREROUTING": compile(
			log("PREROUTING"),
			`--dport=53 --to-ports=<dns>( -i=\S+)? -j=REDIRECT -p=udp`,
			`!-d=\S+ --to-ports=<out>( -i=\S+)? -j=REDIRECT -p=tcp`,
		),
		"nat OUTPUT": compile(
			log("OUTPUT"),
			`multiport --dport=\S+ --uid-owner=\S+ -j=RETURN -p=(tcp|udp)`,
			`--dport=53 --uid-owner=<uid> -j=(RETURN|DOCKER_OUTPUT) -p=udp`,
			`!--uid-owner=<uid> --dport=53 -j=RETURN -p=tcp`, // of Kuma's successor
			`--dport=53 --to-ports=<dns>( -d=\S+)? -j=REDIRECT -p=udp`,
		),
	}
	doubtful = map[string][]*regexp.Regexp{
		"nat OUTPUT":        compile(`(-d=\S+ )?-j=RETURN`),
		"mangle PREROUTING": compile(`--ctstate=INVALID -j=DROP`),
	}
	return bare, doubtful
}

// told finds a number in a chain of ours, or returns other.
func (t *savedTable) told(chain, pattern, other string) string {
	re := regexp.MustCompile(pattern)
	for _, r := range t.in(chain) {
		if m := re.FindStringSubmatch(canonical(r.words)); m != nil {
			return m[1]
		}
	}
	return other
}

// doubtfulRules lists the rules without comments that may be ours or somebody else's.
func (rs *ruleset) doubtfulRules() []string {
	var out []string
	for _, name := range tables {
		for _, r := range rs.table(name).rules {
			if r.doubtful && !r.own {
				out = append(out, "-t "+name+" -A "+r.chain+" "+r.args)
			}
		}
	}
	return out
}
