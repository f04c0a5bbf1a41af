package relay_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kuma-dp/kuma-dp/agent/relay"
)

// reconnects are divided between the two protocols: they share all but the messages.
const reconnects = 1000

// usage is what a leak would make grow.
type usage struct{ goroutines, files, heap int }

// measure waits until what ends is gone, or was never going to be.
func measure(t *testing.T, enough func(usage) bool) (u usage) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		files, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		u = usage{runtime.NumGoroutine(), len(files), int(m.HeapAlloc)}
		if enough(u) || time.Now().After(deadline) {
			return u
		}
		runtime.Gosched()
	}
}

// A control plane that is lost again and again costs nothing that stays, and neither of Envoy's services: ADS goes on
// over the stream that it has, health discovery over a new one each time.
func TestThousandReconnectsLeakNothing(t *testing.T) {
	both(t, func(t *testing.T, p *peer) {
		p.set(clusterType, named(clusterType, "0", "a", "b"))
		r, path := run(t, p, func(c *relay.Config) { c.MinBackoff, c.MaxBackoff = 100*time.Microsecond, time.Millisecond })
		e := connectEnvoy(t, path)
		e.subscribe(clusterType)
		e.accept(clusterType)
		health := connectHealth(t, path)

		seen := 1
		cycle := func(n int) {
			for range n {
				p.forget()
				p.net.drop()
				seen++
				p.await("a new stream", func(got []request, opened int) bool { return opened >= seen && len(got) > 0 })
				p.mu.Lock()
				seen = p.opened
				p.mu.Unlock()
				health.ask(t)
			}
			p.forget()
		}
		count := reconnects * 3 / 4
		if p.state {
			count = reconnects / 4
		}
		cycle(20)
		before := measure(t, func(usage) bool { return true })
		cycle(count)
		// Connections that are being closed may come and go by a few; one left behind in each cycle would be hundreds.
		after := measure(t, func(u usage) bool {
			return u.goroutines <= before.goroutines+5 && u.files <= before.files+5 && u.heap <= before.heap+1<<20
		})
		t.Logf("before %+v, after %+v", before, after)
		if after.goroutines > before.goroutines+5 || after.files > before.files+5 || after.heap > before.heap+1<<20 {
			t.Errorf("%d reconnects left from %+v to %+v", count, before, after)
		}
		p.set(clusterType, named(clusterType, "1", "a", "b", "c"))
		if got := namesOf(e.accept(clusterType)); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("Envoy got %v on its first stream, want [a b c]", got)
		}
		health.ask(t)
		if st := r.Status(); !st.Connected || st.Streams < count {
			t.Errorf("status %+v, want connected after %d streams", st, count)
		}
	})
}

// health is Envoy's side of health discovery: it opens a new stream when the last one has ended.
type health struct {
	conn   *grpc.ClientConn
	stream grpc.ClientStream
	cancel context.CancelFunc
	n      int
}

func connectHealth(t *testing.T, path string) *health {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	h := &health{conn: conn}
	t.Cleanup(func() {
		if h.cancel != nil {
			h.cancel()
		}
		_ = conn.Close()
	})
	h.ask(t)
	return h
}

// ask sends one report and waits until the control plane has answered it, over as many streams as that takes.
func (h *health) ask(t *testing.T) {
	t.Helper()
	h.n++
	want, last := fmt.Sprint(h.n), errors.New("never tried")
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if h.stream == nil {
			ctx, cancel := context.WithCancel(context.Background())
			desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
			s, err := h.conn.NewStream(ctx, desc, "/envoy.service.health.v3.HealthDiscoveryService/StreamHealthCheck", grpc.WaitForReady(true))
			if err != nil {
				cancel()
				last = err
				continue
			}
			h.stream, h.cancel = s, cancel
		}
		var got wrapperspb.StringValue
		last = h.stream.SendMsg(wrapperspb.String(want))
		for last == nil && got.GetValue() != want {
			last = h.stream.RecvMsg(&got)
		}
		if last == nil {
			return
		}
		h.cancel()
		h.stream = nil
	}
	t.Fatalf("health report %s was never answered: %v", want, last)
}
