//go:build linux

package iptables

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// tables that rules of ours can be in, in the order in which they are written.
var tables = []string{tp.TableRaw, tp.TableNAT, tp.TableMangle}

// ownChains are the chains of ours and of Kuma 2.9. Nothing else is ever flushed or deleted.
var ownChains = []string{tp.ChainInbound, tp.ChainOutbound, tp.ChainInboundRedirect, tp.ChainOutboundRedirect}

// ownPlaces are the built-in chains, by table, into which rules of ours and of Kuma's go.
var ownPlaces = map[string][]string{
	tp.TableRaw:    {tp.ChainPrerouting, tp.ChainOutput},
	tp.TableNAT:    {tp.ChainPrerouting, tp.ChainOutput},
	tp.TableMangle: {tp.ChainPrerouting},
}

// ownTargets are the verdicts of those rules besides jumps to our chains.
var ownTargets = []string{"RETURN", "REDIRECT", "CT", "LOG", "DROP", tp.ChainDocker}

// ruleset is what iptables-save printed for one family.
type ruleset struct {
	tables map[string]*savedTable
	// incompatible lists tables with native nft rules, which iptables cannot read.
	incompatible []string
}

type savedTable struct {
	builtin []string // chains in the order printed
	custom  []string
	rules   []savedRule
}

type savedRule struct {
	chain string
	args  string // as printed, without -A and the chain
	words []string
	own   bool // ours or Kuma's, in a built-in chain
	// doubtful says that it may be ours, by what it says, or somebody else's.
	doubtful bool
}

// incompatibleTable is how iptables-nft-save speaks of a table with native nft rules; it then exits with success.
var incompatibleTable = regexp.MustCompile("^# Table `?'?([A-Za-z0-9_]+)'? is incompatible")

// parseSave reads the output of iptables-save. It fails on anything it does not understand: guessing would mean to remove
// what is not ours or to miss what is.
func parseSave(text string) (*ruleset, error) {
	rs := &ruleset{tables: map[string]*savedTable{}}
	var t *savedTable
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimRight(line, "\n")
		fail := func(problem string) error {
			return fmt.Errorf("read iptables-save: line %d: %s: %q", n, problem, line)
		}
		switch {
		case line == "":
		case line[0] == '#':
			if m := incompatibleTable.FindStringSubmatch(line); m != nil {
				rs.incompatible = append(rs.incompatible, m[1])
			}
		case line[0] == '*':
			name := line[1:]
			if t != nil || name == "" || rs.tables[name] != nil {
				return nil, fail("table begins inside another or twice")
			}
			t = &savedTable{}
			rs.tables[name] = t
		case t == nil:
			return nil, fail("outside a table")
		case line == "COMMIT":
			t = nil
		case line[0] == ':':
			f := strings.Fields(line[1:])
			if len(f) < 2 {
				return nil, fail("chain without policy")
			}
			if f[1] == "-" {
				t.custom = append(t.custom, f[0])
			} else {
				t.builtin = append(t.builtin, f[0])
			}
		case strings.HasPrefix(line, "-A "):
			chain, args, _ := strings.Cut(line[3:], " ")
			words, err := splitWords(args)
			if err != nil || chain == "" {
				return nil, fail("not a rule")
			}
			t.rules = append(t.rules, savedRule{chain: chain, args: args, words: words})
		default:
			return nil, fail("not understood")
		}
	}
	if t != nil {
		return nil, errors.New("read iptables-save: the output ends inside a table")
	}
	rs.recognise()
	return rs, nil
}

// splitWords undoes the quoting of iptables-save: words in double quotes with backslashes before quotes and backslashes.
func splitWords(s string) ([]string, error) {
	var words []string
	var w strings.Builder
	inWord, quoted := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\' && i+1 < len(s):
			i++
			w.WriteByte(s[i])
		case c == '"':
			quoted = !quoted
			inWord = true
		case c == ' ' && !quoted:
			if inWord {
				words = append(words, w.String())
				w.Reset()
				inWord = false
			}
		default:
			w.WriteByte(c)
			inWord = true
		}
	}
	if quoted {
		return nil, errors.New("a quote is not closed")
	}
	if inWord {
		words = append(words, w.String())
	}
	return words, nil
}

// after returns the word that follows an option.
func (r savedRule) after(option ...string) string {
	for i, w := range r.words[:max(0, len(r.words)-1)] {
		if slices.Contains(option, w) {
			return r.words[i+1]
		}
	}
	return ""
}

func (r savedRule) target() string { return r.after("-j", "-g") }

// named reports whether a rule of a built-in chain names itself as ours or Kuma's: it jumps to one of our chains, or it begins its
// comment with our prefix, stands where we put rules and ends as ours do. A comment that merely holds the prefix is not enough.
func (r savedRule) named(table string) bool {
	if slices.Contains(ownChains, r.target()) {
		return table == tp.TableNAT
	}
	return slices.Contains(ownPlaces[table], r.chain) &&
		strings.HasPrefix(r.after("--comment"), tp.CommentPrefix) &&
		slices.Contains(ownTargets, r.target())
}

func (rs *ruleset) table(name string) *savedTable {
	if t := rs.tables[name]; t != nil {
		return t
	}
	return &savedTable{}
}

// ownChains returns those of our chains that exist in the table. They only ever are in nat.
func (t *savedTable) ownChains(table string) []string {
	var out []string
	for _, c := range ownChains {
		if table == tp.TableNAT && slices.Contains(t.custom, c) {
			out = append(out, c)
		}
	}
	return out
}

// in returns the rules of one chain.
func (t *savedTable) in(chain string) []savedRule {
	var out []savedRule
	for _, r := range t.rules {
		if r.chain == chain {
			out = append(out, r)
		}
	}
	return out
}

// ownBuiltin returns our rules in built-in chains, in order.
func (t *savedTable) ownBuiltin() []savedRule {
	var out []savedRule
	for _, r := range t.rules {
		if r.own {
			out = append(out, r)
		}
	}
	return out
}

// hasOurs reports whether anything of ours is there.
func (rs *ruleset) hasOurs() bool {
	return slices.ContainsFunc(tables, func(name string) bool {
		t := rs.table(name)
		return len(t.ownChains(name)) > 0 || len(t.ownBuiltin()) > 0
	})
}

// hasForeign reports whether anybody else's rules or chains are there.
func (rs *ruleset) hasForeign() bool {
	for name, t := range rs.tables {
		own := t.ownChains(name)
		if len(t.custom) > len(own) {
			return true
		}
		for _, r := range t.rules {
			if !slices.Contains(own, r.chain) && !r.own {
				return true
			}
		}
	}
	return false
}

// hasDocker reports whether Docker redirects DNS here.
func (rs *ruleset) hasDocker() bool {
	return slices.Contains(rs.table(tp.TableNAT).custom, tp.ChainDocker)
}

// foreignJumps returns rules of others, in chains of others, that use our chains: those could not be deleted.
func (rs *ruleset) foreignJumps() []string {
	var out []string
	t := rs.table(tp.TableNAT)
	for _, r := range t.rules {
		if slices.Contains(t.custom, r.chain) && !slices.Contains(ownChains, r.chain) && slices.Contains(ownChains, r.target()) {
			out = append(out, "-A "+r.chain+" "+r.args)
		}
	}
	return out
}
