//go:build !linux

package dns

import (
	"net"
	"net/netip"
)

const batchSize = 1

// batch is one packet at a time: elsewhere than on Linux the resolver is for trying things out.
type batch struct {
	conn   *net.UDPConn
	buf    [queryRoom]byte
	n      int
	src    netip.AddrPort
	answer []byte
}

func newBatch(conn *net.UDPConn, _ bool) (*batch, error) { return &batch{conn: conn}, nil }

func (b *batch) receive() (int, error) {
	var err error
	if b.n, b.src, err = b.conn.ReadFromUDPAddrPort(b.buf[:]); err != nil {
		return 0, err
	}
	return 1, nil
}

func (b *batch) poll() (int, error) { return 0, nil }

func (b *batch) packet(int) ([]byte, netip.AddrPort) { return b.buf[:b.n], b.src }

func (b *batch) source(int) netip.AddrPort { return b.src }

func (b *batch) destination(int) netip.Addr { return netip.Addr{} }

func (b *batch) control(int) []byte { return nil }

func (b *batch) queue(_ int, answer []byte) { b.answer = answer }

func (b *batch) flush() error {
	if b.answer == nil {
		return nil
	}
	_, err := b.conn.WriteToUDPAddrPort(b.answer, b.src)
	b.answer = nil
	return err
}
