package dns

import (
	"net"
	"slices"
	"sync"
)

// drops counts what the kernel threw away because we were too slow, over all sockets there have been.
type drops struct {
	mu   sync.Mutex
	open []*net.UDPConn
	gone float64 // of the sockets that are closed
}

func (d *drops) watch(conn *net.UDPConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = append(d.open, conn)
}

// close closes a socket and keeps its count. Closing it again does nothing.
func (d *drops) close(conn *net.UDPConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := slices.Index(d.open, conn); i >= 0 {
		d.gone += float64(dropped(conn))
		d.open = slices.Delete(d.open, i, i+1)
	}
	_ = conn.Close() // what it had to send has been sent
}

func (d *drops) total() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	sum := d.gone
	for _, conn := range d.open {
		sum += float64(dropped(conn))
	}
	return sum
}
