//go:build linux

package netns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// nfHeader is the size of what follows the netlink header: family, version and resource.
	nfHeader = 4
	// dumpAttempts is how often a list is read again because others changed it while it was read.
	dumpAttempts = 50
	// smallPacket fits into the usual buffer of a socket.
	smallPacket = 64 << 10
	// maxAnswer is more than the kernel puts into one packet of a list.
	maxAnswer = 64 << 10
)

// Message asks nf_tables for one change.
type Message struct {
	Kind   uint16 // NFT_MSG_*
	Flags  uint16 // NLM_F_* besides those of every request
	Family uint8  // NFPROTO_*
	Attrs  []byte
}

// RefusedError says which message of a transaction the kernel did not take; Index is negative when it is none of them.
type RefusedError struct {
	Index int
	Errno unix.Errno
}

func (r *RefusedError) Error() string { return r.Errno.Error() }
func (r *RefusedError) Unwrap() error { return r.Errno }

// Commit makes all changes at one instant, or none.
func Commit(list ...Message) error { return transact(list, true) }

// Try asks whether the kernel would take a transaction, and changes no rule. It may load modules of nf_tables.
func Try(list ...Message) error { return transact(list, false) }

func transact(list []Message, commit bool) error {
	if len(list) == 0 {
		return nil
	}
	const batch = unix.NFNL_SUBSYS_NONE << 8
	// Numbers begin with 1 for the begin; the last message asks for an answer, which tells that those before were taken too.
	b := appendMessage(nil, batch|unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, 1, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	for i, m := range list {
		flags := unix.NLM_F_REQUEST | m.Flags
		if i == len(list)-1 {
			flags |= unix.NLM_F_ACK
		}
		b = appendMessage(b, unix.NFNL_SUBSYS_NFTABLES<<8|m.Kind, flags, uint32(i+2), m.Family, 0, m.Attrs)
	}
	if commit { // without an end the kernel checks everything and takes it back
		b = appendMessage(b, batch|unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, uint32(len(list)+2), unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, nil)
	}
	s, err := send(b)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	return receive(s, func(kind, _ uint16, seq uint32, body []byte) (done bool, err error) {
		index := int(seq) - 2
		switch errno := answer(kind, body); {
		case errno != 0:
			return true, &RefusedError{index, errno}
		default:
			return kind == unix.NLMSG_ERROR && index == len(list)-1, nil
		}
	})
}

// send opens a socket and sends one packet. Blocking calls of this thread are the fastest: the kernel does everything and
// answers before the send returns.
func send(b []byte) (s int, err error) {
	s, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return -1, fmt.Errorf("open netfilter socket: %w", err)
	}
	// The limit is for kernels that do not answer.
	err = unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})
	if err == nil && len(b) > smallPacket {
		// A transaction is one packet; long plans need more than the usual buffer.
		if unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*len(b)) != nil {
			err = unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_SNDBUF, 2*len(b))
		}
	}
	if err == nil {
		err = unix.Sendto(s, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		return -1, fmt.Errorf("send to netfilter: %w", errors.Join(err, unix.Close(s)))
	}
	return s, nil
}

// receive gives every message that comes to take, until that is done or fails.
func receive(s int, take func(kind, flags uint16, seq uint32, body []byte) (done bool, err error)) error {
	buf := make([]byte, maxAnswer)
	for {
		size, _, err := unix.Recvfrom(s, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for netfilter: %w", err)
		}
		for b := buf[:size]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return errors.New("answer of netfilter is not understood")
			}
			done, err := take(binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), binary.NativeEndian.Uint32(b[8:]), b[unix.NLMSG_HDRLEN:size])
			if done || err != nil {
				return err
			}
			b = b[min(len(b), align(size)):]
		}
	}
}

// answer is the error in a message that says how a request ended.
func answer(kind uint16, body []byte) unix.Errno {
	if (kind != unix.NLMSG_ERROR && kind != unix.NLMSG_DONE) || len(body) < 4 {
		return 0
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// appendMessage appends a netlink header, a netfilter header and attributes.
func appendMessage(b []byte, kind, flags uint16, seq uint32, family byte, resource uint16, attrs []byte) []byte {
	b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+nfHeader+len(attrs)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, flags)
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = append(b, 0, 0, 0, 0, family, unix.NFNETLINK_V0)
	b = binary.BigEndian.AppendUint16(b, resource)
	return append(b, attrs...)
}

// AppendAttr appends an attribute; nested ones have unix.NLA_F_NESTED in kind.
func AppendAttr(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.NLA_HDRLEN+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, align(len(value))-len(value))...)
}

// AppendString appends a zero-terminated text.
func AppendString(b []byte, kind uint16, value string) []byte {
	return AppendAttr(b, kind, append([]byte(value), 0))
}

// AppendUint32 appends a number.
func AppendUint32(b []byte, kind uint16, value uint32) []byte {
	return AppendAttr(b, kind, binary.BigEndian.AppendUint32(nil, value))
}

// Attrs iterates over attributes, without the flags of their kinds, up to the first that does not fit.
func Attrs(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.NLA_HDRLEN {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.NLA_HDRLEN || size > len(b) {
				return
			}
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(kind, b[unix.NLA_HDRLEN:size]) {
				return
			}
			b = b[min(len(b), align(size)):]
		}
	}
}

// Object is one thing that nf_tables listed.
type Object struct {
	Family uint8
	// Generation tells one state of all rules from the next.
	Generation uint16
	Attrs      map[uint16][]byte
}

// String is an attribute that is a text.
func (o Object) String(kind uint16) string { return strings.TrimRight(string(o.Attrs[kind]), "\x00") }

// Uint32 is an attribute that is a number; it is 0 when there is none.
func (o Object) Uint32(kind uint16) uint32 {
	if b := o.Attrs[kind]; len(b) == 4 {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// List asks nf_tables for what it has of a kind (NFT_MSG_GET*), in one family or all (AF_UNSPEC). attrs narrow it down,
// where the kernel knows how.
func List(kind uint16, family uint8, attrs []byte) ([]Object, error) {
	for range dumpAttempts {
		out, whole, err := list(kind, family, attrs)
		if err != nil {
			return nil, fmt.Errorf("list nf_tables: %w", err)
		}
		if whole {
			return out, nil
		}
	}
	return nil, errors.New("list nf_tables: it keeps changing")
}

// list also says whether nothing changed meanwhile.
func list(kind uint16, family uint8, attrs []byte) (out []Object, whole bool, err error) {
	s, err := send(appendMessage(nil, unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, 1, family, 0, attrs))
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(s)
	whole = true
	err = receive(s, func(kind, flags uint16, _ uint32, body []byte) (done bool, err error) {
		whole = whole && flags&unix.NLM_F_DUMP_INTR == 0
		switch errno := answer(kind, body); {
		case errno == unix.EINTR:
			whole = false
			return true, nil
		case errno != 0:
			return true, errno
		case kind == unix.NLMSG_DONE || len(body) < nfHeader:
			return true, nil
		}
		o := Object{Family: body[0], Generation: binary.BigEndian.Uint16(body[2:]), Attrs: map[uint16][]byte{}}
		for kind, value := range Attrs(slices.Clone(body[nfHeader:])) {
			o.Attrs[kind] = value
		}
		out = append(out, o)
		return false, nil
	})
	return out, whole, err
}
