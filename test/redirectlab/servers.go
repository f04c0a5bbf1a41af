//go:build linux

package redirectlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kuma-dp/kuma-dp/internal/netlab"
)

// Servers answers connections and packets in namespaces with a word that says who it is.
type Servers struct {
	t       *testing.T
	wg      sync.WaitGroup
	sockets []io.Closer
}

// NewServers makes servers that end with the test.
func NewServers(t *testing.T) *Servers {
	t.Helper()
	s := &Servers{t: t}
	t.Cleanup(func() {
		for _, c := range s.sockets {
			_ = c.Close() // only ends the loop
		}
		s.wg.Wait()
	})
	return s
}

// TCP answers with the word and, for a redirected connection, its original destination.
func (s *Servers) TCP(h *netlab.Host, uid int, addr, word string, original bool) {
	s.t.Helper()
	var l net.Listener
	if err := h.DoAs(uid, func() (err error) { l, err = net.Listen(network("tcp", addr), addr); return err }); err != nil {
		s.t.Fatal(err)
	}
	s.sockets = append(s.sockets, l)
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answer := word
			if original {
				answer += " " + originalDestination(c.(*net.TCPConn))
			}
			_, _ = io.WriteString(c, answer) // a client that went away is noticed by the client
			_ = c.Close()
		}
	})
}

// UDP answers packets with the word.
func (s *Servers) UDP(h *netlab.Host, uid int, addr, word string) {
	s.t.Helper()
	var c net.PacketConn
	if err := h.DoAs(uid, func() (err error) { c, err = net.ListenPacket(network("udp", addr), addr); return err }); err != nil {
		s.t.Fatal(err)
	}
	s.sockets = append(s.sockets, c)
	s.wg.Go(func() {
		buf := make([]byte, 512)
		for {
			_, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo([]byte(word), from)
		}
	})
}

func network(proto, addr string) string {
	if netip.MustParseAddrPort(addr).Addr().Is4() {
		return proto + "4"
	}
	return proto + "6"
}

// originalDestination reads SO_ORIGINAL_DST as Envoy does.
func originalDestination(c *net.TCPConn) string {
	raw, err := c.SyscallConn()
	if err != nil {
		return err.Error()
	}
	const soOriginalDst = 80
	var out string
	err = raw.Control(func(fd uintptr) {
		var sa unix.RawSockaddrAny
		size := uint32(unsafe.Sizeof(sa))
		level := unix.SOL_IP
		if strings.HasPrefix(c.LocalAddr().String(), "[") {
			level = unix.SOL_IPV6
		}
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), soOriginalDst,
			uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno != 0:
			out = errno.Error()
		case sa.Addr.Family == unix.AF_INET:
			v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa))
			out = netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), swap(v4.Port)).String()
		default:
			v6 := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sa))
			out = netip.AddrPortFrom(netip.AddrFrom16(v6.Addr), swap(v6.Port)).String()
		}
	})
	if err != nil {
		return err.Error()
	}
	return out
}

func swap(port uint16) uint16 { return port>>8 | port<<8 }

// Probe connects or sends a packet as a user and returns who answered, or why nobody did.
func Probe(ctx context.Context, h *netlab.Host, uid int, proto, addr, local string) string {
	return probe(ctx, h, uid, proto, addr, local, Patience)
}

// probe waits so long for the answer.
func probe(ctx context.Context, h *netlab.Host, uid int, proto, addr, local string, wait time.Duration) string {
	var c net.Conn
	err := h.DoAs(uid, func() (err error) {
		d := net.Dialer{Timeout: Patience}
		if local != "" {
			p := netip.MustParseAddrPort(local)
			d.LocalAddr = net.TCPAddrFromAddrPort(p)
			if proto == "udp" {
				d.LocalAddr = net.UDPAddrFromAddrPort(p)
			}
		}
		c, err = d.DialContext(ctx, proto, addr)
		return err
	})
	if err != nil {
		return fmt.Sprintf("no connection: %v", err)
	}
	defer c.Close()
	answer, err := ask(c, proto == "udp", time.Now().Add(wait))
	if err != nil {
		return fmt.Sprintf("no answer: %v", err)
	}
	return answer
}

// again is how long a packet may be under way before it counts as lost: a new link drops what waits for its neighbour.
const again = time.Second

// ask returns what comes until a point in time. With packets it asks again and again, as resolvers do.
func ask(c net.Conn, packets bool, until time.Time) (string, error) {
	buf := make([]byte, 512)
	for {
		deadline := until
		if packets {
			if _, err := io.WriteString(c, "?"); err != nil {
				return "", err
			}
			if next := time.Now().Add(again); next.Before(until) {
				deadline = next
			}
		}
		if err := c.SetReadDeadline(deadline); err != nil {
			return "", err
		}
		n, err := c.Read(buf)
		if !errors.Is(err, os.ErrDeadlineExceeded) || deadline.Equal(until) {
			return string(buf[:n]), err
		}
	}
}
