package dns

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many packets one system call takes. Beyond some dozens the cost of the call no longer matters.
const batchSize = 32

// mmsghdr is struct mmsghdr of recvmmsg(2), which x/sys does not have.
type mmsghdr struct {
	unix.Msghdr
	n uint32 // bytes received
}

// batch is the packets that one system call brought and the answers that the next one sends. Everything is allocated once.
// The kernel writes to no more of it than has come in, so what is idle stays small.
type batch struct {
	raw           syscall.RawConn
	in, out       [batchSize]mmsghdr
	inVec, outVec [batchSize]unix.Iovec
	read, write   func(fd uintptr) bool
	sendmmsg      func(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) // tests make it fail

	received, queued, sent int
	wait                   bool // for packets when there are none
	errno                  syscall.Errno

	names    [batchSize]unix.RawSockaddrInet6 // has room for either family
	controls [batchSize][pktinfoSize]byte
	packets  [batchSize][queryRoom]byte
}

// newBatch makes a batch for a socket. When it is bound to all addresses, answers leave from the one that was asked.
func newBatch(conn *net.UDPConn, wildcard bool) (*batch, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	b := &batch{raw: raw, received: batchSize, sendmmsg: sendmmsg}
	for i := range b.in {
		in, out := &b.in[i].Msghdr, &b.out[i].Msghdr
		b.inVec[i].Base = &b.packets[i][0]
		b.inVec[i].SetLen(queryRoom)
		in.Iov, out.Iov = &b.inVec[i], &b.outVec[i]
		in.SetIovlen(1)
		out.SetIovlen(1)
		in.Name = (*byte)(unsafe.Pointer(&b.names[i])) //nolint:gosec // a sockaddr is what the kernel writes there
		if wildcard {
			in.Control = &b.controls[i][0]
		}
	}
	// Made once: a function made for each call would be an allocation for each.
	b.read, b.write = b.recv, b.transmit
	return b, nil
}

// receive waits for packets and returns how many came. It never waits for a second one when there is a first.
func (b *batch) receive() (int, error) {
	b.reset(true)
	if err := b.raw.Read(b.read); err != nil {
		return 0, err
	}
	return b.received, b.err("recvmmsg")
}

// poll is receive without waiting: it returns 0 when there is nothing, also when the deadline for reading has passed.
func (b *batch) poll() (int, error) {
	b.reset(false)
	if err := b.raw.Control(func(fd uintptr) { b.recv(fd) }); err != nil {
		return 0, err
	}
	return b.received, b.err("recvmmsg")
}

func (b *batch) reset(wait bool) {
	for i := range b.received { // the kernel has changed only those
		in := &b.in[i].Msghdr
		in.Namelen = unix.SizeofSockaddrInet6
		if in.Control != nil {
			in.SetControllen(pktinfoSize)
		}
	}
	b.received, b.queued, b.sent, b.wait, b.errno = 0, 0, 0, wait, 0
}

func (b *batch) err(call string) error {
	if b.errno == 0 {
		return nil
	}
	return os.NewSyscallError(call, b.errno)
}

// recv returns false to be called again when something can be read.
func (b *batch) recv(fd uintptr) bool {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.in[0])), batchSize, unix.MSG_DONTWAIT, 0, 0) //nolint:gosec // the headers stay where they are
		switch errno {
		case 0:
			b.received = int(n)
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return !b.wait
		default:
			b.errno = errno
		}
		return true
	}
}

// packet returns what came and from whom. Zones are left out, as naming them takes memory; see source.
func (b *batch) packet(i int) ([]byte, netip.AddrPort) {
	sa := &b.names[i]
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:]) //nolint:gosec // two bytes in the order of the network, in both families
	msg := b.packets[i][:b.in[i].n]
	if sa.Family == unix.AF_INET {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa)) //nolint:gosec // the family says so
		return msg, netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	}
	return msg, netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), port)
}

// source is where packet i came from, in full, for an answer that is sent later.
func (b *batch) source(i int) netip.AddrPort {
	_, src := b.packet(i)
	if sa := &b.names[i]; sa.Family == unix.AF_INET6 && sa.Scope_id != 0 {
		return netip.AddrPortFrom(src.Addr().WithZone(strconv.FormatUint(uint64(sa.Scope_id), 10)), src.Port())
	}
	return src
}

// destination is where packet i was sent to, as far as the socket tells.
func (b *batch) destination(i int) netip.Addr {
	if b.in[i].Control == nil {
		return netip.Addr{}
	}
	return destination(b.controls[i][:b.in[i].Controllen])
}

// control is what the answer to packet i has to be sent with.
func (b *batch) control(i int) []byte {
	if b.in[i].Control == nil {
		return nil
	}
	return sourceControl(b.controls[i][:b.in[i].Controllen])
}

// queue takes the answer to packet i. It must stay as it is until flush.
func (b *batch) queue(i int, answer []byte) {
	out := &b.out[b.queued].Msghdr
	out.Name, out.Namelen = b.in[i].Name, b.in[i].Namelen
	b.outVec[b.queued].Base = &answer[0]
	b.outVec[b.queued].SetLen(len(answer))
	out.Control = nil
	control := b.control(i)
	if len(control) > 0 {
		out.Control = &control[0]
	}
	out.SetControllen(len(control))
	b.queued++
}

// flush sends the answers queued. One that cannot be sent keeps none of the others back; the last error is returned.
func (b *batch) flush() error {
	var failed error
	for b.sent < b.queued {
		b.errno = 0
		err := b.raw.Write(b.write)
		if err != nil {
			failed = err // closed, or stopping took too long: the others would not fare better
			break
		}
		if b.errno != 0 {
			failed = b.err("sendmmsg")
			b.sent++
		}
	}
	b.queued, b.sent = 0, 0
	return failed
}

// transmit sends as many answers as the kernel takes. It returns false to be called again when there is room. Errors are about
// the first answer: the kernel tells of one only when it has sent nothing.
func (b *batch) transmit(fd uintptr) bool {
	for b.sent < b.queued {
		n, errno := b.sendmmsg(fd, b.out[b.sent:b.queued])
		switch errno {
		case 0:
			b.sent += n
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			b.errno = errno
			return true
		}
	}
	return true
}

func sendmmsg(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&msgs[0])), uintptr(len(msgs)), unix.MSG_DONTWAIT, 0, 0) //nolint:gosec // the headers stay where they are
	return int(n), errno
}
