package dns

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// No answer is lost, mixed from two tables, or older than one before it while tables change 10,000 times.
func TestTablesChangeUnderLoad(t *testing.T) {
	const changes, window = 10_000, 16 // queries under way per client, so that they are answered in batches
	s := startMesh(t, Config{Upstreams: []netip.AddrPort{dead(t)}, Workers: 2})
	table := func(n int) *Table {
		hi, lo := byte(n>>8), byte(n)
		return NewTable([]Record{{"x.mesh", []netip.Addr{netip.AddrFrom4([4]byte{241, hi, lo, 1}), netip.AddrFrom4([4]byte{241, hi, lo, 2})}}}, DefaultTTL)
	}
	s.SetTable(table(0))
	var wg sync.WaitGroup
	answers, stop := make(chan struct{}, 1), make(chan struct{})
	for i := range 6 {
		network := []string{"udp", "udp", "tcp"}[i%3]
		wg.Go(func() {
			conn, err := net.Dial(network, s.Addrs()[0].String())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			last := 0
			for {
				select {
				case <-stop:
					return
				default:
				}
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				if last, err = askMany(conn, network == "tcp", window, last); err != nil {
					t.Errorf("over %s: %v", network, err)
					return
				}
				select {
				case answers <- struct{}{}:
				default:
				}
			}
		})
	}
	failed := make(chan struct{})
	go func() { wg.Wait(); close(failed) }()
	defer func() { close(stop); <-failed }()
	for n := 1; n <= changes; n++ {
		select {
		case <-answers: // so that answers are given from every table
		case <-failed:
			return
		}
		s.SetTable(table(n))
	}
}

// askMany sends n queries at once, waits for all answers, and returns from which table the newest is. None may be older than
// last.
func askMany(conn net.Conn, tcp bool, n, last int) (int, error) {
	var all []byte
	for id := range n {
		req := question("x.mesh", mdns.TypeA)
		req.Id = uint16(id)
		w := wire(req)
		if tcp {
			all = append(binary.BigEndian.AppendUint16(all, uint16(len(w))), w...)
		} else if _, err := conn.Write(w); err != nil {
			return 0, err
		}
	}
	if tcp {
		if _, err := conn.Write(all); err != nil {
			return 0, err
		}
	}
	open, newest, buf := 1<<n-1, last, make([]byte, 512)
	for open != 0 {
		size, err := 0, error(nil)
		if tcp {
			if _, err = io.ReadFull(conn, buf[:2]); err == nil {
				size, err = io.ReadFull(conn, buf[:binary.BigEndian.Uint16(buf)])
			}
		} else {
			size, err = conn.Read(buf)
		}
		if err != nil {
			return 0, fmt.Errorf("answers %b of %d are lost: %w", open, n, err)
		}
		resp := new(mdns.Msg)
		if err := resp.Unpack(buf[:size]); err != nil || len(resp.Answer) != 2 || open&(1<<resp.Id) == 0 {
			return 0, fmt.Errorf("answer %v: %w", resp, err)
		}
		open &^= 1 << resp.Id
		a, b := resp.Answer[0].(*mdns.A).A.To4(), resp.Answer[1].(*mdns.A).A.To4()
		from := int(binary.BigEndian.Uint16(a[1:]))
		if from != int(binary.BigEndian.Uint16(b[1:])) || a[3] == b[3] {
			return 0, fmt.Errorf("%v and %v are from different tables", a, b)
		}
		if from < last {
			return 0, fmt.Errorf("answer from table %d after one from table %d", from, last)
		}
		newest = max(newest, from)
	}
	return newest, nil
}
