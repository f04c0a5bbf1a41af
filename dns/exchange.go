package dns

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// maxForged is how many packets that are no answer to the query an upstream's address may send before the query is asked
// over TCP, where nobody else can answer. The socket is new, so they cannot be answers that are late for another query.
const maxForged = 16

// job is a question for upstreams. It is not changed once it has been handed to one.
type job struct {
	msg   []byte // the client's well-formed query
	end   int    // where its question ends
	size  int    // how large an answer over UDP the client has allowed
	tcp   bool
	trace *recorder // nil when nobody looks
}

func newJob(msg []byte, q *query, tcp bool) *job {
	return &job{msg: msg, end: q.end, size: int(q.udpSize), tcp: tcp}
}

// exchange is a job on its way to one upstream. Each has a socket of its own: a random port and a random id are what makes
// answers hard to forge.
type exchange struct {
	j        *job
	u        *upstream
	sockets  *sockets
	id       [2]byte
	start    time.Time
	deadline time.Time
	tcp      bool
	forged   int
	cut      []byte   // truncated answer, after which the question is asked again over TCP
	conn     net.Conn // nil before sending and after closing
	local    netip.AddrPort
	step     int // of the trace
}

func (x *exchange) network() string {
	if x.tcp {
		return "tcp"
	}
	return "udp"
}

// buffers hold a query or an answer of the usual size and one byte more, see receive.
var buffers = sync.Pool{New: func() any { b := make([]byte, maxUDP+1); return &b }}

// try sends over UDP and waits until a time. It returns done false when that was too short, or when TCP has to be tried: then
// finish does the rest.
func (x *exchange) try(until time.Time) (resp []byte, done bool, err error) {
	if err = x.send(); err == nil {
		resp, err = x.receive(earlier(until, x.deadline))
	}
	var late net.Error
	switch {
	case x.tcp:
		return nil, false, nil
	case err != nil && errors.As(err, &late) && late.Timeout() && until.Before(x.deadline) && !x.u.looped.Load():
		return nil, false, nil
	}
	x.close()
	resp, err = x.accept(resp, err)
	return resp, true, err
}

// finish does what try has left to do, or everything.
func (x *exchange) finish(ctx context.Context) (resp []byte, err error) {
	defer x.close()
	if !x.tcp {
		if x.conn == nil {
			err = x.send()
		}
		if err == nil {
			stop := interruptAt(ctx, x.conn)
			resp, err = x.receive(x.deadline)
			stop()
		}
	}
	if x.tcp {
		x.close()
		if resp, err = x.overTCP(ctx); err != nil && x.cut != nil {
			resp, err = x.cut, nil // better than none
		}
	}
	return x.accept(resp, err)
}

// interruptAt ends reading from conn with ctx.
func interruptAt(ctx context.Context, conn net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { interrupt(conn) })
}

func interrupt(conn net.Conn) { _ = conn.SetDeadline(time.Unix(1, 0)) } // fails only when closed already

func (x *exchange) send() error {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(x.u.addr))
	if err != nil {
		return err
	}
	x.open(conn)
	_, _ = rand.Read(x.id[:]) // never fails
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	req := (*buf)[:copy(*buf, x.j.msg)]
	copy(req, x.id[:])
	_, err = conn.Write(req)
	return err
}

// receive waits for the answer over UDP. With x.tcp set afterwards it has to be asked for over TCP.
func (x *exchange) receive(until time.Time) ([]byte, error) {
	if err := x.conn.SetReadDeadline(until); err != nil {
		return nil, err
	}
	if x.sockets.interrupted(x.u) { // before the deadline was set, which would have made it ineffective
		return nil, errLoop
	}
	// One byte more than the client can have asked for tells an answer that was cut by us from one that fits.
	pooled := buffers.Get().(*[]byte)
	defer buffers.Put(pooled)
	buf := *pooled
	if x.j.size >= len(buf) {
		buf = make([]byte, x.j.size+1)
	}
	for {
		n, err := x.conn.Read(buf)
		if err != nil {
			return nil, err
		}
		resp := buf[:n]
		if !answers(resp, x.id, x.j.msg, x.j.end) {
			if x.forged++; x.forged >= maxForged {
				x.tcp = true
				return nil, errors.New("too many forged answers")
			}
			continue // wait on for the true one
		}
		if n == len(buf) {
			resp[2] |= flagTC >> 8
		}
		resp = bytes.Clone(resp)
		// A client without EDNS could not take more than it got, and comes back over TCP by itself.
		if resp[2]&(flagTC>>8) != 0 && x.j.size > minUDP {
			x.tcp, x.cut = true, resp
		}
		return resp, nil
	}
}

func (x *exchange) overTCP(ctx context.Context) ([]byte, error) {
	d := net.Dialer{Deadline: x.deadline}
	conn, err := d.DialContext(ctx, "tcp", x.u.addr.String())
	if err != nil {
		return nil, err
	}
	x.open(conn)
	if err := conn.SetDeadline(x.deadline); err != nil {
		return nil, err
	}
	defer interruptAt(ctx, conn)()
	if x.sockets.interrupted(x.u) {
		return nil, errLoop
	}
	_, _ = rand.Read(x.id[:]) // never fails
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(x.j.msg)), uint16(len(x.j.msg)))
	frame = append(frame, x.j.msg...)
	copy(frame[2:], x.id[:])
	if _, err := conn.Write(frame); err != nil {
		return nil, err
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	resp := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, resp); err != nil {
		return nil, err
	}
	if !answers(resp, x.id, x.j.msg, x.j.end) {
		return nil, errors.New("answer is for another question")
	}
	return resp, nil
}

func (x *exchange) open(conn net.Conn) {
	x.conn, x.local = conn, addrPort(conn.LocalAddr())
	x.sockets.add(x)
}

func (x *exchange) close() {
	if x.conn == nil {
		return
	}
	x.sockets.remove(x.local)
	_ = x.conn.Close() // nothing is written late
	x.conn = nil
}

// accept gives an answer the client's id, or says why it is of no use. errRefused comes with the answer.
func (x *exchange) accept(resp []byte, err error) ([]byte, error) {
	if err != nil {
		if x.u.looped.Load() {
			err = errLoop
		}
		return nil, fmt.Errorf("ask %s over %s: %w", x.u.addr, x.network(), err)
	}
	copy(resp, x.j.msg[:2])
	switch rcode := resp[3] & rcodeMask; {
	case rcode == rcodeServFail, rcode == rcodeRefused, rcode == rcodeNotImp:
		return resp, fmt.Errorf("ask %s over %s: %w: %s", x.u.addr, x.network(), errRefused, rcodeName(int(rcode)))
	case resp[2]&(flagTC>>8) == 0 && !wellFormed(resp, x.j.end):
		return nil, fmt.Errorf("ask %s over %s: answer is cut off", x.u.addr, x.network())
	}
	return resp, nil
}

// answers says whether resp can be the answer to msg when that was sent with id: a response with the same id and the same
// question, letter case included (contract dns.md §4.3). Servers that could not read a question may leave it out.
func answers(resp []byte, id [2]byte, msg []byte, end int) bool {
	if len(resp) < headerLen || !bytes.Equal(resp[:2], id[:]) {
		return false
	}
	flags := binary.BigEndian.Uint16(resp[2:])
	if flags&flagQR == 0 || flags&opcodeMask != 0 {
		return false
	}
	switch binary.BigEndian.Uint16(resp[4:]) {
	case 0:
		switch flags & rcodeMask {
		case rcodeFormErr, rcodeServFail, rcodeNotImp, rcodeRefused:
			return true
		}
		return false
	case 1:
		return len(resp) >= end && bytes.Equal(resp[headerLen:end], msg[headerLen:end])
	}
	return false
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
