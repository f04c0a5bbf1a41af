//go:build linux

package verify

import (
	"fmt"
	"net"
	"net/netip"
	"sync"

	tp "github.com/kuma-dp/kuma-dp/transparentproxy"
)

// question asks for a name that nobody has.
func question() []byte {
	b := []byte{0x6b, 0x75, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0} // an id, recursion, one question
	for _, label := range []string{"kuma-verify", "invalid"} {
		b = append(append(b, byte(len(label))), label...)
	}
	return append(b, 0, 0, 1, 0, 1) // an address of the internet
}

// answerer answers queries in the place of a kuma-dp that does not run yet.
type answerer struct {
	conns []net.PacketConn
	wg    sync.WaitGroup
}

// newAnswerer listens where kuma-dp would, as its user.
func newAnswerer(proxy uint32, port uint16, families []tp.Family) (*answerer, error) {
	a := &answerer{}
	for _, f := range families {
		network := "udp4"
		if f == tp.IPv6 {
			network = "udp6"
		}
		err := asUser(proxy, func() error {
			c, err := net.ListenPacket(network, netip.AddrPortFrom(localhost[f], port).String()) //nolint:noctx // an address
			if err == nil {
				a.conns = append(a.conns, c)
			}
			return err
		})
		if err != nil {
			a.close()
			return nil, fmt.Errorf("answer queries in the place of kuma-dp: %w", err)
		}
	}
	for _, c := range a.conns {
		a.wg.Go(func() {
			buf := make([]byte, 512)
			for {
				n, from, err := c.ReadFrom(buf)
				if err != nil {
					return
				}
				if n > 2 {
					buf[2] |= 0x80                  // an answer
					_, _ = c.WriteTo(buf[:n], from) // that it does not arrive is noticed
				}
			}
		})
	}
	return a, nil
}

func (a *answerer) close() {
	if a == nil {
		return
	}
	for _, c := range a.conns {
		_ = c.Close() // ends the loop
	}
	a.wg.Wait()
}
