//go:build linux

package verify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/transparentproxy/internal/netns"
)

// tuple names a connection in one direction.
type tuple struct {
	protocol uint8
	from, to netip.AddrPort
}

// connection is an entry of connection tracking as it was made: reply.from is where its packets really go.
type connection struct {
	original, reply tuple
	zone            uint16
	raw             []byte // CTA_TUPLE_ORIG, to name it again
	family          uint8
}

// tracker is told by the kernel of each connection that begins, with what its rules of NAT made of it. An entry itself may be
// gone a moment later: it ends with the refusal that a port without a listener answers.
type tracker struct {
	file *os.File
	wg   sync.WaitGroup

	mu   sync.Mutex
	seen map[tuple]connection
	// strays are answers of the agent that the kernel takes for connections of their own, by where they go.
	strays map[netip.AddrPort]connection
	wanted map[tuple]bool
	// answers come from this port.
	answers uint16
	lost    bool
	news    chan struct{} // something was seen
}

const (
	// eventsOff is where the kernel says that it tells of no connections.
	eventsOff = "/proc/sys/net/netfilter/nf_conntrack_events"
	// eventBuffer holds what a busy host begins while this process is not running.
	eventBuffer = 8 << 20
)

// errNoEvents is why nothing can be seen.
var errNoEvents = errors.New("connection tracking does not tell of connections here: sysctl -w net.netfilter.nf_conntrack_events=1")

func newTracker(answers uint16) (*tracker, error) {
	if b, err := os.ReadFile(eventsOff); err == nil && strings.TrimSpace(string(b)) == "0" {
		return nil, errNoEvents
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("listen to connection tracking: %w", err)
	}
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventBuffer) // what is lost is noticed
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.NFNLGRP_CONNTRACK_NEW - 1)}); err != nil {
		return nil, errors.Join(fmt.Errorf("listen to connection tracking: %w", err), unix.Close(fd))
	}
	t := &tracker{
		file: os.NewFile(uintptr(fd), "netlink"), seen: map[tuple]connection{}, strays: map[netip.AddrPort]connection{},
		wanted: map[tuple]bool{}, answers: answers, news: make(chan struct{}, 1),
	}
	t.wg.Go(t.receive)
	return t, nil
}

func (t *tracker) close() {
	_ = t.file.Close() // only read
	t.wg.Wait()
}

// want has a connection remembered; its packet is not sent yet.
func (t *tracker) want(c tuple) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted[c] = true
}

func (t *tracker) find(c tuple) (connection, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	got, ok := t.seen[c]
	return got, ok
}

// stray is an answer of the agent to a query from an address which the kernel did not take for one.
func (t *tracker) stray(to netip.AddrPort) (connection, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	got, ok := t.strays[to]
	return got, ok
}

// overflown says whether events were lost since it was asked last.
func (t *tracker) overflown() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	lost := t.lost
	t.lost = false
	return lost
}

// receive ends when the socket is closed.
func (t *tracker) receive() {
	buf := make([]byte, 1<<16)
	for {
		n, err := t.file.Read(buf)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			t.mu.Lock()
			t.lost = true
			t.mu.Unlock()
			continue
		case err != nil:
			return
		}
		messages, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			continue
		}
		for _, m := range messages {
			if c, ok := parseConnection(m.Data); ok {
				t.tell(c)
			}
		}
	}
}

func (t *tracker) tell(c connection) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.wanted[c.original]:
		t.seen[c.original] = c
	case c.original.protocol == unix.IPPROTO_UDP && c.original.from.Port() == t.answers:
		if len(t.strays) < 1<<10 { // a host where all answers are lost
			t.strays[c.original.to] = c
		}
	default:
		return
	}
	select {
	case t.news <- struct{}{}:
	default:
	}
}

// Attributes of nfnetlink_conntrack.h.
const (
	ctaTupleOrig, ctaTupleReply, ctaZone = 1, 2, 18
	ctaTupleIP, ctaTupleProto            = 1, 2
	ctaProtoNum, ctaSrcPort, ctaDstPort  = 1, 2, 3
	ctaDelete                            = 2 // IPCTNL_MSG_CT_DELETE
)

// parseConnection reads a message without its netlink header.
func parseConnection(b []byte) (c connection, ok bool) {
	if len(b) < nl.SizeofNfgenmsg {
		return c, false
	}
	c.family = b[0]
	for kind, value := range netns.Attrs(b[nl.SizeofNfgenmsg:]) {
		switch kind {
		case ctaTupleOrig:
			c.original, c.raw = parseTuple(value), append([]byte(nil), value...)
		case ctaTupleReply:
			c.reply = parseTuple(value)
		case ctaZone:
			if len(value) >= 2 {
				c.zone = binary.BigEndian.Uint16(value)
			}
		}
	}
	return c, c.original.from.IsValid() && c.reply.from.IsValid()
}

func parseTuple(b []byte) (t tuple) {
	var from, to netip.Addr
	var fromPort, toPort uint16
	for kind, value := range netns.Attrs(b) {
		switch kind {
		case ctaTupleIP:
			for inner, innerValue := range netns.Attrs(value) { // odd numbers are sources, of either family
				addr, ok := netip.AddrFromSlice(innerValue)
				switch {
				case !ok:
				case inner%2 == 1:
					from = addr
				default:
					to = addr
				}
			}
		case ctaTupleProto:
			for inner, innerValue := range netns.Attrs(value) {
				switch {
				case inner == ctaProtoNum && len(innerValue) >= 1:
					t.protocol = innerValue[0]
				case inner == ctaSrcPort && len(innerValue) >= 2:
					fromPort = binary.BigEndian.Uint16(innerValue)
				case inner == ctaDstPort && len(innerValue) >= 2:
					toPort = binary.BigEndian.Uint16(innerValue)
				}
			}
		}
	}
	if from.IsValid() && to.IsValid() {
		t.from, t.to = netip.AddrPortFrom(from, fromPort), netip.AddrPortFrom(to, toPort)
	}
	return t
}

// forget has the kernel drop the entry. Most are gone by then.
func (c connection) forget() {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|ctaDelete, unix.NLM_F_ACK)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: c.family, Version: nl.NFNETLINK_V0})
	req.AddData(nl.NewRtAttr(unix.NLA_F_NESTED|ctaTupleOrig, c.raw))
	if c.zone != 0 {
		req.AddData(nl.NewRtAttr(ctaZone, binary.BigEndian.AppendUint16(nil, c.zone)))
	}
	_, _ = req.Execute(unix.NETLINK_NETFILTER, 0) // otherwise it ends by itself, in two minutes
}
