//go:build linux

package nftables

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// set holds the values of one condition.
type set struct {
	id       uint32
	kind     uint32 // what nft(8) takes the values for
	interval bool
	size     int // of a value
	host     bool
	elements []element
}

// element is a value, or the first value behind a range.
type element struct {
	key string
	end bool
	// open says that no end follows, because the range has no value behind it.
	open bool
}

// Numbers by which nft(8) knows what a set holds.
const (
	kindIPv4 = 7
	kindIPv6 = 8
	kindPort = 13
	kindUID  = 24
)

func newSet(id uint32, c condition, host bool) set {
	s := set{id: id, interval: c.isInterval(), size: len(c.spans[0].first), host: host}
	switch {
	case c.field == owner:
		s.kind = kindUID
	case s.size == 4:
		s.kind = kindIPv4
	case s.size == 16:
		s.kind = kindIPv6
	default:
		s.kind = kindPort
	}
	for i, span := range c.spans {
		if i == 0 && s.interval && strings.Trim(span.first, "\x00") != "" {
			s.elements = append(s.elements, element{key: strings.Repeat("\x00", s.size), end: true})
		}
		behind, more := after(span.last)
		s.elements = append(s.elements, element{key: string(order(span.first, host)), open: s.interval && !more})
		if s.interval && more {
			s.elements = append(s.elements, element{key: behind, end: true})
		}
	}
	return s
}

// contents is what the set holds, for comparing.
func (s set) contents() string {
	list := make([]string, len(s.elements))
	for i, e := range s.elements {
		list[i] = e.contents()
	}
	return contents(s.interval, list)
}

func (e element) contents() string {
	return hex.EncodeToString([]byte(e.key)) + fmt.Sprintf(":%t", e.end)
}

func contents(interval bool, elements []string) string {
	slices.Sort(elements)
	return fmt.Sprintf("%t{%s}", interval, strings.Join(elements, " "))
}

// maxElements of a set go into one message: an attribute has at most 64 KiB.
const maxElements = 800

// messages create the set.
func (s set) messages(family uint8) []netns.Message {
	name := netns.AppendString(nil, unix.NFTA_SET_TABLE, tableName)
	name = netns.AppendString(name, unix.NFTA_SET_NAME, newSetName)
	flags := uint32(unix.NFT_SET_ANONYMOUS | unix.NFT_SET_CONSTANT)
	if s.interval {
		flags |= unix.NFT_SET_INTERVAL
	}
	byteOrder := uint32(2) // big-endian
	if s.host {
		byteOrder = 1
	}
	b := netns.AppendUint32(bytes.Clone(name), unix.NFTA_SET_FLAGS, flags)
	b = netns.AppendUint32(b, unix.NFTA_SET_KEY_TYPE, s.kind)
	b = netns.AppendUint32(b, unix.NFTA_SET_KEY_LEN, uint32(s.size))
	b = netns.AppendUint32(b, unix.NFTA_SET_ID, s.id)
	b = netns.AppendAttr(b, unix.NFTA_SET_DESC|unix.NLA_F_NESTED, netns.AppendUint32(nil, unix.NFTA_SET_DESC_SIZE, uint32(len(s.elements))))
	b = netns.AppendAttr(b, unix.NFTA_SET_USERDATA, userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, byteOrder))
	out := []netns.Message{{Kind: unix.NFT_MSG_NEWSET, Flags: unix.NLM_F_CREATE, Family: family, Attrs: b}}
	for chunk := range slices.Chunk(s.elements, maxElements) {
		var list []byte
		for _, e := range chunk {
			var item []byte
			if e.end {
				item = netns.AppendUint32(item, unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
			}
			item = netns.AppendAttr(item, unix.NFTA_SET_ELEM_KEY|unix.NLA_F_NESTED, netns.AppendAttr(nil, unix.NFTA_DATA_VALUE, []byte(e.key)))
			if e.open {
				item = netns.AppendAttr(item, unix.NFTA_SET_ELEM_USERDATA, userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_ELEM_FLAGS, 1))
			}
			list = netns.AppendAttr(list, unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, item)
		}
		b := netns.AppendUint32(bytes.Clone(name), unix.NFTA_SET_ELEM_LIST_SET_ID, s.id)
		b = netns.AppendAttr(b, unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED, list)
		out = append(out, netns.Message{Kind: unix.NFT_MSG_NEWSETELEM, Flags: unix.NLM_F_CREATE, Family: family, Attrs: b})
	}
	return out
}
