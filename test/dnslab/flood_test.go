//go:build linux

package dnslab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
)

// Bounds of what the resolver may use: 512 queries wait for upstreams, each with a socket, and 256 connections are open.
const (
	moreMemory = 48 << 20 // at its peak, than before
	maxFiles   = 512 + 256 + 50
)

// TestFlood sends more than anybody answers, of every kind (demands F26): questions for an upstream that is silent, malformed
// packets, connections that say nothing, little by little or lies. Memory and files stay within bounds, answers within limits,
// and when it is over the resolver serves as before.
func TestFlood(t *testing.T) {
	l := newLab(t)
	silent := l.address(t, 1)
	shell(t, l.up, "", "iptables", "-A", "INPUT", "-d", silent.String(), "-j", "DROP")
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	writeFile(t, conf, nameservers(silent))
	// Nothing is closed for being idle: what is closed is over the limit.
	r := l.startProgram(t, "plain", config{"ResolvConf": conf, "IdleTimeout": time.Hour})
	l.digOne(t, "one.svc.mesh.local", "A")
	before := r.peak(t)
	for _, flood := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"questions for upstreams", func(t *testing.T) { l.floodPackets(t, 100_000, foreign) }},
		{"malformed packets", func(t *testing.T) { l.floodPackets(t, 100_000, broken) }},
		{"large answers", func(t *testing.T) { l.floodPackets(t, 50_000, large) }},
		{"connections", func(t *testing.T) { l.floodConnections(t, r, 2000) }},
	} {
		t.Run(flood.name, func(t *testing.T) {
			flood.run(t)
			t.Logf("%.1f MB at the start, %.1f MB at the peak", float64(before)/(1<<20), float64(r.peak(t))/(1<<20))
			if got := outcome(l.digOne(t, "one.svc.mesh.local", "A")); got != "241.0.0.2" {
				t.Errorf("after it a mesh name has %s", got)
			}
			if used := r.peak(t); used > before+moreMemory {
				t.Errorf("%d bytes before, %d at the peak", before, used)
			}
		})
	}
}

// foreign is a question that only an upstream could answer.
func foreign(random *rand.Rand, buf []byte) []byte {
	m := new(mdns.Msg).SetQuestion(fmt.Sprintf("n%x.example.com.", random.Uint64()), mdns.TypeA)
	wire, err := m.PackBuffer(buf)
	if err != nil {
		panic(err)
	}
	return wire
}

// broken is a query of which much has been changed, or nothing but chance.
func broken(random *rand.Rand, buf []byte) []byte {
	wire := large(random, buf)
	if random.IntN(4) == 0 {
		wire = buf[:random.IntN(1400)]
		for i := range wire {
			wire[i] = byte(random.Uint32())
		}
		return wire
	}
	for range 1 + random.IntN(8) {
		wire[random.IntN(len(wire))] = byte(random.Uint32())
	}
	return wire[:random.IntN(len(wire)+1)]
}

// large has an answer that is much larger than the question.
func large(_ *rand.Rand, buf []byte) []byte {
	m := new(mdns.Msg).SetQuestion("many.svc.mesh.local.", mdns.TypeA)
	m.SetEdns0(65535, false)
	wire, err := m.PackBuffer(buf)
	if err != nil {
		panic(err)
	}
	return wire
}

// parallel is how many send at once.
const parallel = 4

// maxAnswer is what is sent at most over UDP, whatever a client says that it takes.
const maxAnswer = 4096

func (l lab) floodPackets(t *testing.T, n int, next func(random *rand.Rand, buf []byte) []byte) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var readers, senders sync.WaitGroup
	var answers atomic.Int64
	var conns []net.Conn
	for i := range parallel {
		c := l.dial(t, "udp", "127.0.0.1:53")
		conns = append(conns, c)
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		readers.Go(func() {
			buf := make([]byte, 65535)
			for {
				k, err := c.Read(buf)
				if err != nil {
					return // closed below
				}
				answers.Add(1)
				if k > maxAnswer || k < 12 || buf[2]&0x80 == 0 {
					t.Errorf("an answer of %d bytes: %.20x", k, buf[:k])
				}
			}
		})
		senders.Go(func() {
			buf := make([]byte, 2048)
			for range n / parallel {
				if _, err := c.Write(next(random, buf)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	senders.Wait()
	for _, c := range conns {
		_ = c.Close() // ends the reader
	}
	readers.Wait()
	if answers.Load() == 0 {
		t.Error("nothing was answered: the flood did not arrive")
	}
}

// floodConnections opens more connections than may be open and sends over them what ties up those who wait for more.
func (l lab) floodConnections(t *testing.T, r *resolver, n int) {
	t.Helper()
	good, err := new(mdns.Msg).SetQuestion("one.svc.mesh.local.", mdns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	framed := append(binary.BigEndian.AppendUint16(nil, uint16(len(good))), good...)
	kinds := [][]byte{nil, {0}, {0xff, 0xff}, framed[:len(framed)-1], append([]byte{0xff, 0xff}, good...), append(slices.Clone(framed), 0)}
	var open []net.Conn
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for i := range n {
		c, err := l.app.DialContext(t.Context(), "tcp", "127.0.0.1:53")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
		// Those over the limit may be closed before they have said a thing.
		if _, err := c.Write(kinds[i%len(kinds)]); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	}
	// The last is over the limit and learns so at once.
	last := open[len(open)-1]
	if err := last.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(last); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a connection over the limit stays open")
	}
	if files := r.files(t); files > maxFiles {
		t.Errorf("%d connections take %d files", n, files)
	}
	// UDP is served beside them.
	if got := first(l.ask(t, "udp", "one.svc.mesh.local", mdns.TypeA)); got != "241.0.0.2" {
		t.Errorf("over UDP beside %d connections: %s", n, got)
	}
}

// peak is the most that the process has had in memory.
func (r *resolver) peak(t testing.TB) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kb int
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			return kb << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// files is how many the process has open.
func (r *resolver) files(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", r.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
