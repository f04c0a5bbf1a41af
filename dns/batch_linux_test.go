package dns

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	mdns "github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// What goes wrong with one answer, or with a call, loses none of the other answers.
func TestBatchSendsWhatItCan(t *testing.T) {
	var kick func()
	for _, tt := range []struct {
		name     string
		sendmmsg func(call int, fd uintptr, msgs []mmsghdr) (int, syscall.Errno)
		wantErr  syscall.Errno
		lost     int
	}{
		{"one at a time", func(_ int, fd uintptr, msgs []mmsghdr) (int, syscall.Errno) { return sendmmsg(fd, msgs[:1]) }, 0, 0},
		{"no room at first", func(call int, fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
			if call < 3 {
				kick() // the kernel says again that there is room
				return 0, unix.EAGAIN
			}
			return sendmmsg(fd, msgs)
		}, 0, 0},
		{"interrupted", func(call int, fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
			if call%2 == 0 {
				return 0, unix.EINTR
			}
			return sendmmsg(fd, msgs[:1])
		}, 0, 0},
		{"a queue of the kernel is full for a moment", func(call int, fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
			if call == 1 {
				return 0, unix.ENOBUFS
			}
			return sendmmsg(fd, msgs[:min(3, len(msgs))])
		}, unix.ENOBUFS, 1},
		{"a destination that cannot be", func(call int, fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
			if call == 0 {
				(*unix.RawSockaddrInet4)(unsafe.Pointer(msgs[2].Name)).Port = 0
			}
			return sendmmsg(fd, msgs)
		}, unix.EINVAL, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, client := udpPair(t)
			b, err := newBatch(server, false)
			if err != nil {
				t.Fatal(err)
			}
			calls, kicks := 0, 0
			kick = func() { kicks++; client.Write([]byte("kick")) }
			b.sendmmsg = func(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
				calls++
				return tt.sendmmsg(calls-1, fd, msgs)
			}
			const sent = 10
			for i := range sent {
				if _, err := client.Write([]byte{byte(i)}); err != nil {
					t.Fatal(err)
				}
			}
			n, err := b.receive()
			if err != nil || n != sent {
				t.Fatalf("received %d, %v, want all %d in one call", n, err, sent)
			}
			for i := range n {
				msg, src := b.packet(i)
				if src != addrPort(client.LocalAddr()) {
					t.Fatalf("packet %d is from %s, want %s", i, src, client.LocalAddr())
				}
				b.queue(i, []byte{msg[0], 'x'})
			}
			err = b.flush()
			if (err != nil) != (tt.wantErr != 0) || (err != nil && !strings.Contains(err.Error(), tt.wantErr.Error())) {
				t.Errorf("got error %v, want %v", err, tt.wantErr)
			}
			buf := make([]byte, 3)
			for range sent - tt.lost {
				if n, err := client.Read(buf); err != nil || n != 2 || buf[1] != 'x' {
					t.Fatalf("got %q, %v", buf[:n], err)
				}
			}
			if n, err := b.poll(); n != kicks || err != nil {
				t.Errorf("left in the queue: got %d, %v", n, err)
			}
		})
	}
}

// udpPair returns a socket and a client of it.
func udpPair(t testing.TB) (server, client *net.UDPConn) {
	t.Helper()
	server, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(loopback0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server, dialUDP(t, addrPort(server.LocalAddr()))
}

// From the packet to its answer, sockets and metrics included.
func TestBatchAllocatesNothing(t *testing.T) {
	for _, wildcard := range []bool{false, true} {
		server, client := udpPair(t)
		if wildcard {
			if err := receiveDestination(server, false); err != nil {
				t.Fatal(err)
			}
		}
		s, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		s.SetTable(NewTable(records(), DefaultTTL))
		r, err := newReader(server, wildcard)
		if err != nil {
			t.Fatal(err)
		}
		msg, buf := wire(question("many.svc.mesh.local", mdns.TypeA)), make([]byte, maxUDP)
		got := 0
		if n := testing.AllocsPerRun(100, func() {
			for range 40 {
				client.Write(msg)
			}
			for left := 40; left > 0; {
				n, err := r.receive()
				if err != nil {
					t.Fatal(err)
				}
				s.answerBatch(t.Context(), r, n)
				left -= n
			}
			for range 40 {
				if n, _ := client.Read(buf); n > headerLen {
					got++
				}
			}
		}); n != 0 {
			t.Errorf("wildcard %v: %v allocations for 40 queries, want none", wildcard, n)
		}
		if got != 101*40 {
			t.Errorf("wildcard %v: %d answers, want %d", wildcard, got, 101*40)
		}
	}
}

// From these ports no client asks, but servers answer: two resolvers could keep each other busy.
func TestPortsThatAreNotAnswered(t *testing.T) {
	server, client := udpPair(t)
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	s.SetTable(NewTable(records(), DefaultTTL))
	r, err := newReader(server, false)
	if err != nil {
		t.Fatal(err)
	}
	for id := range uint16(3) {
		req := question("v4only.mesh", mdns.TypeA)
		req.Id = id
		if _, err := client.Write(wire(req)); err != nil {
			t.Fatal(err)
		}
	}
	n, err := r.receive()
	if err != nil || n != 3 {
		t.Fatalf("received %d, %v", n, err)
	}
	r.names[0].Port, r.names[1].Port = 0, binary.NativeEndian.Uint16([]byte{0, portDNS})
	if _, src := r.packet(1); src.Port() != portDNS {
		t.Fatalf("port is %d", src.Port())
	}
	var sent int
	r.sendmmsg = func(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
		sent += len(msgs)
		return sendmmsg(fd, msgs)
	}
	s.answerBatch(t.Context(), r, n)
	buf := make([]byte, 512)
	if n, err := client.Read(buf); err != nil || n < headerLen || buf[1] != 2 || sent != 1 {
		t.Errorf("%d answers, the first %x, %v, want one, to the third query", sent, buf[:n], err)
	}
}

// Queries that have arrived when the server is told to stop are answered before the socket is closed.
func TestQueueIsAnsweredAtTheEnd(t *testing.T) {
	s, err := New(Config{Listen: []netip.AddrPort{loopback0}, Upstreams: []netip.AddrPort{dead(t)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	s.SetTable(NewTable(records(), DefaultTTL))
	const clients, each = 4, 25 // several batches, less than a socket's queue holds
	var conns []*net.UDPConn
	for range clients {
		c := dialUDP(t, s.Addrs()[0])
		conns = append(conns, c)
		for range each {
			if _, err := c.Write(wire(question("v4only.mesh", mdns.TypeA))); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for _, c := range conns {
		for i := range each {
			if n, err := c.Read(make([]byte, 512)); err != nil {
				t.Fatalf("answer %d of %d: %d bytes, %v", i, each, n, err)
			}
		}
	}
}
