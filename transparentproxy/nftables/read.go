//go:build linux

package nftables

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// liveTable is our table as the kernel has it.
type liveTable struct {
	family uint8
	flags  uint32
	chains []*liveChain
}

type liveChain struct {
	name   string
	hook   *hook
	policy uint32
	rules  []liveRule
}

type liveRule struct {
	handle uint64
	// meaning is what the rule does, in the form of describe.
	meaning string
}

func (t *liveTable) chain(name string) *liveChain {
	if at := slices.IndexFunc(t.chains, func(c *liveChain) bool { return c.name == name }); at >= 0 {
		return t.chains[at]
	}
	return nil
}

// readAttempts is how often reading begins again because rules changed meanwhile.
const readAttempts = 50

var errChanged = errors.New("rules keep changing while they are read")

// read returns our tables by family.
func read() (map[uint8]*liveTable, error) {
	list, err := readSaved()
	if err != nil {
		return nil, err
	}
	out := map[uint8]*liveTable{}
	for _, s := range list {
		out[s.Family] = s.live()
	}
	return out, nil
}

// readSaved returns our tables as the kernel lists them, all of one moment.
func readSaved() ([]savedTable, error) {
	var err error
	for range readAttempts {
		var tables []savedTable
		if tables, err = readOnce(); !errors.Is(err, errChanged) {
			return tables, err
		}
	}
	return nil, err
}

func readOnce() ([]savedTable, error) {
	r := &reader{}
	list, err := r.ourTables()
	if err != nil {
		return nil, err
	}
	var out []savedTable
	for _, o := range list {
		t := savedTable{Family: o.Family, Flags: o.Uint32(unix.NFTA_TABLE_FLAGS)}
		if err := r.table(&t); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// ourTables lists tables of ours; a kernel without nf_tables has none.
func (r *reader) ourTables() ([]netns.Object, error) {
	list, err := r.list(unix.NFT_MSG_GETTABLE, unix.AF_UNSPEC, nil)
	if isAbsent(err) {
		return nil, nil
	}
	return slices.DeleteFunc(list, func(o netns.Object) bool {
		return o.String(unix.NFTA_TABLE_NAME) != tableName || !slices.Contains(families, o.Family)
	}), err
}

// isAbsent reports whether an error says that the kernel has no nf_tables.
func isAbsent(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// families are those in which a table of ours can be.
var families = []uint8{unix.NFPROTO_INET, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6}

// reader makes sure that several lists are of one state of the rules.
type reader struct {
	generation uint16
	begun      bool
}

func (r *reader) list(kind uint16, family uint8, attrs []byte) ([]netns.Object, error) {
	list, err := netns.List(kind, family, attrs)
	if err != nil {
		return nil, err
	}
	for _, o := range list {
		if r.begun && o.Generation != r.generation {
			return nil, errChanged
		}
		r.begun, r.generation = true, o.Generation
	}
	return list, nil
}

func (r *reader) table(t *savedTable) error {
	chains, err := r.list(unix.NFT_MSG_GETCHAIN, t.Family, nil)
	if err != nil {
		return err
	}
	for _, o := range chains {
		if o.String(unix.NFTA_CHAIN_TABLE) == tableName {
			t.Chains = append(t.Chains, o.Attrs)
		}
	}
	if t.Sets, err = r.sets(t.Family); err != nil {
		return err
	}
	rules, err := r.list(unix.NFT_MSG_GETRULE, t.Family, netns.AppendString(nil, unix.NFTA_RULE_TABLE, tableName))
	if err != nil {
		return err
	}
	for _, o := range rules {
		if o.String(unix.NFTA_RULE_TABLE) == tableName {
			t.Rules = append(t.Rules, o.Attrs)
		}
	}
	return nil
}

// live is the table in the form in which it is compared.
func (s savedTable) live() *liveTable {
	t := &liveTable{family: s.Family, flags: s.Flags}
	for _, c := range s.Chains {
		t.chains = append(t.chains, newLiveChain(netns.Object{Attrs: c}))
	}
	sets := map[string]string{}
	for _, set := range s.Sets {
		if set.isAnonymous() {
			sets[set.Attrs.text(unix.NFTA_SET_NAME)] = set.contents()
		}
	}
	for _, r := range s.Rules {
		c := t.chain(r.text(unix.NFTA_RULE_CHAIN))
		if c == nil {
			continue
		}
		var handle uint64
		if b := r[unix.NFTA_RULE_HANDLE]; len(b) == 8 {
			handle = binary.BigEndian.Uint64(b)
		}
		c.rules = append(c.rules, liveRule{handle, describe(r[unix.NFTA_RULE_EXPRESSIONS], sets)})
	}
	return t
}

func newLiveChain(o netns.Object) *liveChain {
	c := &liveChain{name: o.String(unix.NFTA_CHAIN_NAME), policy: acceptPolicy}
	where, ok := o.Attrs[unix.NFTA_CHAIN_HOOK]
	if !ok {
		return c
	}
	c.policy = o.Uint32(unix.NFTA_CHAIN_POLICY)
	c.hook = &hook{kind: o.String(unix.NFTA_CHAIN_TYPE)}
	for kind, value := range netns.Attrs(where) {
		switch {
		case len(value) != 4:
		case kind == unix.NFTA_HOOK_HOOKNUM:
			c.hook.number = binary.BigEndian.Uint32(value)
		case kind == unix.NFTA_HOOK_PRIORITY:
			c.hook.priority = int32(binary.BigEndian.Uint32(value))
		}
	}
	return c
}

// sets lists the sets of our table with what they hold.
func (r *reader) sets(family uint8) ([]savedSet, error) {
	of := netns.AppendString(nil, unix.NFTA_SET_TABLE, tableName)
	list, err := r.list(unix.NFT_MSG_GETSET, family, of)
	if err != nil {
		return nil, err
	}
	var out []savedSet
	for _, o := range list {
		if o.String(unix.NFTA_SET_TABLE) != tableName {
			continue
		}
		s := savedSet{Attrs: o.Attrs}
		name := o.String(unix.NFTA_SET_NAME)
		parts, err := r.list(unix.NFT_MSG_GETSETELEM, family, netns.AppendString(slices.Clone(of), unix.NFTA_SET_ELEM_LIST_SET, name))
		if err != nil {
			return nil, err
		}
		for _, p := range parts {
			for _, item := range netns.Attrs(p.Attrs[unix.NFTA_SET_ELEM_LIST_ELEMENTS]) {
				s.Elements = append(s.Elements, item)
			}
		}
		out = append(out, s)
	}
	return out, nil
}

// contents is what the set holds, in the form of those of a plan.
func (s savedSet) contents() string {
	elements := make([]string, len(s.Elements))
	for i, item := range s.Elements {
		elements[i] = parseElement(item).contents()
	}
	// What else a set can be, such as a map, is in its flags.
	const ordinary = unix.NFT_SET_ANONYMOUS | unix.NFT_SET_CONSTANT | unix.NFT_SET_INTERVAL
	flags := netns.Object{Attrs: s.Attrs}.Uint32(unix.NFTA_SET_FLAGS)
	c := contents(flags&unix.NFT_SET_INTERVAL != 0, elements)
	if extra := flags &^ ordinary; extra != 0 {
		c += fmt.Sprintf(" flags %#x", extra)
	}
	return c
}

func parseElement(item []byte) element {
	var e element
	for kind, value := range netns.Attrs(item) {
		switch kind {
		case unix.NFTA_SET_ELEM_KEY:
			for k, v := range netns.Attrs(value) {
				if k == unix.NFTA_DATA_VALUE {
					e.key = string(v)
				}
			}
		case unix.NFTA_SET_ELEM_FLAGS:
			e.end = len(value) == 4 && binary.BigEndian.Uint32(value)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		}
	}
	return e
}

// nftaBitwiseData is what shifts have, as linux/netfilter/nf_tables.h numbers it.
const nftaBitwiseData = 7

// expressions are those that rules of ours use: the highest attribute that is known, so that those of later kernels do not
// matter, and the attributes that hold data.
var expressions = map[string]struct {
	last uint16
	data []uint16
}{
	"bitwise":   {nftaBitwiseData, []uint16{unix.NFTA_BITWISE_MASK, unix.NFTA_BITWISE_XOR, nftaBitwiseData}},
	"byteorder": {unix.NFTA_BYTEORDER_SIZE, nil},
	"cmp":       {unix.NFTA_CMP_DATA, []uint16{unix.NFTA_CMP_DATA}},
	"ct":        {unix.NFTA_CT_SREG, nil},
	"immediate": {unix.NFTA_IMMEDIATE_DATA, []uint16{unix.NFTA_IMMEDIATE_DATA}},
	"log":       {unix.NFTA_LOG_FLAGS, nil},
	"lookup":    {unix.NFTA_LOOKUP_FLAGS, nil},
	"meta":      {unix.NFTA_META_SREG, nil},
	"payload":   {unix.NFTA_PAYLOAD_CSUM_FLAGS, nil},
	"range":     {unix.NFTA_RANGE_TO_DATA, []uint16{unix.NFTA_RANGE_FROM_DATA, unix.NFTA_RANGE_TO_DATA}},
	"redir":     {unix.NFTA_REDIR_FLAGS, nil},
}

// describe writes down what the expressions of a rule do, so that a rule as we write it and as the kernel lists it come out
// the same. Sets are written by what they hold.
func describe(list []byte, sets map[string]string) string {
	var out []string
	for _, item := range netns.Attrs(list) {
		var name string
		var data []byte
		for kind, value := range netns.Attrs(item) {
			switch kind {
			case unix.NFTA_EXPR_NAME:
				name = strings.TrimRight(string(value), "\x00")
			case unix.NFTA_EXPR_DATA:
				data = value
			}
		}
		out = append(out, describeExpression(name, data, sets))
	}
	return strings.Join(out, "; ")
}

func describeExpression(name string, data []byte, sets map[string]string) string {
	x, known := expressions[name]
	if !known {
		return name + " " + hex.EncodeToString(data)
	}
	values := make([]string, x.last+1)
	for kind, value := range netns.Attrs(data) {
		if kind > x.last {
			continue
		}
		switch text := hex.EncodeToString(value); {
		case name == "lookup" && kind == unix.NFTA_LOOKUP_SET_ID: // only while it is made
		case name == "lookup" && kind == unix.NFTA_LOOKUP_SET:
			set := strings.TrimRight(string(value), "\x00")
			if c, ok := sets[set]; ok {
				set = c
			}
			values[kind] = set
		case slices.Contains(x.data, kind):
			values[kind] = describeData(value)
		case strings.Trim(text, "0") != "": // an absent number is 0
			values[kind] = text
		}
	}
	return name + " " + strings.Join(values, ",")
}

// describeData is a value, or a verdict with its chain.
func describeData(b []byte) string {
	var out []string
	for kind, value := range netns.Attrs(b) {
		if kind == unix.NFTA_DATA_VERDICT {
			for k, v := range netns.Attrs(value) {
				if k == unix.NFTA_VERDICT_CODE || k == unix.NFTA_VERDICT_CHAIN {
					out = append(out, fmt.Sprintf("%d:%x", k, v))
				}
			}
			continue
		}
		out = append(out, hex.EncodeToString(value))
	}
	return strings.Join(out, " ")
}
