package workloadapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Connections at a time: of each user that is served, and of all others together, who are only told that they are not.
const (
	maxConnections = 64
	maxStrangers   = 8
)

// caller is who connected, as the kernel says. It is what the process was then: who hands its connection on hands on its right.
type caller struct {
	credentials.CommonAuthInfo
	uid uint32
	pid int32 // 0 for a process of a namespace that we do not see into
}

// AuthType names the way in which the caller was found.
func (caller) AuthType() string { return "SO_PEERCRED" }

func callerOf(ctx context.Context) (caller, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return caller{}, false
	}
	who, ok := p.AuthInfo.(caller)
	return who, ok
}

// peers are the transport credentials of a unix socket: nothing is encrypted, and the kernel tells who is there. They bound the
// connections.
type peers struct {
	served []uint32

	mu   sync.Mutex
	open map[int64]int // by user; strangers are one
}

const strangers = -1

func newPeers(served []uint32) *peers { return &peers{served: served, open: map[int64]int{}} }

var errServerOnly = errors.New("these credentials are a server's")

func (*peers) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errServerOnly
}

// ServerHandshake asks the kernel.
func (p *peers) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("look at a peer: a %T is no unix socket", conn)
	}
	rawConn, err := unixConn.SyscallConn()
	if err != nil {
		return nil, nil, fmt.Errorf("look at a peer: %w", err)
	}
	var cred *unix.Ucred
	if control := rawConn.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); control != nil || err != nil {
		return nil, nil, fmt.Errorf("look at a peer: %w", errors.Join(control, err))
	}
	who := caller{credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}, cred.Uid, cred.Pid}
	key, limit := int64(cred.Uid), maxConnections
	if !slices.Contains(p.served, cred.Uid) {
		key, limit = strangers, maxStrangers
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open[key] >= limit {
		return nil, nil, fmt.Errorf("user %d has %d connections already", cred.Uid, limit)
	}
	p.open[key]++
	return &counted{Conn: conn, done: sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.open[key]--; p.open[key] == 0 {
			delete(p.open, key)
		}
	})}, who, nil
}

// Info says how connections are made.
func (*peers) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "local"}
}

// Clone returns the same: there is nothing to change.
func (p *peers) Clone() credentials.TransportCredentials { return p }

// OverrideServerName has no meaning here.
func (*peers) OverrideServerName(string) error { return nil }

// counted gives its place back when it is closed.
type counted struct {
	net.Conn
	done func()
}

func (c *counted) Close() error {
	c.done()
	return c.Conn.Close()
}
