//go:build linux

package netns

import (
	"maps"
	"net/netip"
	"slices"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// DefaultStateDir is outside /run/kuma, which may belong to the agent's user: root must not follow what that user puts there.
const DefaultStateDir = "/run/kuma-tproxy"

// journal records, per network namespace, what backends created besides rules, chains and tables of ours, which are known
// by their names. Without it removal still removes those, and leaves empty built-in tables and the loopback address.
type journal struct {
	// Created are built-in chains and tables of iptables' nft flavour that did not exist before.
	Created []Created
	// Addresses were added to the loopback interface, each for the backends named: the last one to go takes it away.
	Addresses map[netip.Prefix][]string
	// Bare are rules in built-in chains that have no comment by which they could be known.
	Bare []BareRule `json:",omitempty"`
}

// Created is a built-in chain, or a whole table when Chain is empty.
type Created struct {
	Family       tp.Family
	Table, Chain string
}

// BareRule is a rule of iptables in a built-in chain. Its words mean something to iptables only, which also decides whether
// the rule can be one of its own.
type BareRule struct {
	Flavour string
	Family  tp.Family
	Table   string
	Chain   string
	Rule    string
}

func (j journal) empty() bool { return len(j.Created)+len(j.Addresses)+len(j.Bare) == 0 }

func (j journal) equal(o journal) bool {
	return slices.Equal(j.Created, o.Created) && slices.Equal(j.Bare, o.Bare) && maps.EqualFunc(j.Addresses, o.Addresses, slices.Equal[[]string])
}

// journalFile is where the journal of the calling thread's namespace is.
type journalFile struct{ File }

func openJournal(dir string) (journalFile, error) {
	f, err := Open(dir, "journal")
	return journalFile{f}, err
}

// read returns an empty journal when there is none for this namespace.
func (f journalFile) read() (journal, error) {
	var j journal
	if _, err := f.Read(&j); err != nil {
		return journal{}, err
	}
	j.keepKnown()
	return j, nil
}

// tables of iptables that a backend may have made the kernel create.
var tables = []string{tp.TableRaw, tp.TableNAT, tp.TableMangle}

// keepKnown drops what no apply writes: a damaged journal must not make us remove something else.
func (j *journal) keepKnown() {
	j.Created = slices.DeleteFunc(j.Created, func(c Created) bool { return !slices.Contains(tables, c.Table) })
	j.Bare = slices.DeleteFunc(j.Bare, func(r BareRule) bool { return !slices.Contains(tables, r.Table) })
	maps.DeleteFunc(j.Addresses, func(a netip.Prefix, users []string) bool { return !slices.Contains(OwnAddresses, a) || len(users) == 0 })
}

// put replaces the journal, or forgets it when it says nothing.
func (f journalFile) put(j journal) error {
	if j.empty() {
		return f.Remove()
	}
	return f.Write(j)
}
