package xds

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kuma-dp/kuma-dp/controlplane/topology"
)

func TestDebounce(t *testing.T) {
	ms := func(n ...int) (out []time.Duration) {
		for _, i := range n {
			out = append(out, time.Duration(i)*time.Millisecond)
		}
		return out
	}
	var storm []int
	for i := range 100 {
		storm = append(storm, 5*i)
	}
	for _, tt := range []struct {
		name          string
		touched, want []time.Duration
	}{
		{"an isolated change goes out at once", ms(0, 100), ms(0, 100)},
		{"the next ones are gathered until it is quiet", ms(0, 5, 12, 50), ms(0, 22, 50)},
		{"a change after the flush of a window is gathered too", ms(0, 5, 20), ms(0, 15, 30)},
		{"but not for ever", ms(storm...), ms(0, 205, 405, 505)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Config{Workers: 1})
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() { s.debounce(ctx) })
				start := time.Now()
				var got []time.Duration
				wg.Go(func() {
					for p := s.queue.pop(); p != nil; p = s.queue.pop() {
						got = append(got, time.Since(start))
						s.mu.Lock()
						p.queued = false
						s.mu.Unlock()
					}
				})
				p := &proxy{id: topology.ProxyID{Mesh: "m", Name: "p"}}
				s.proxies[p.id] = p
				for _, at := range tt.touched {
					<-time.After(at - time.Since(start))
					synctest.Wait()
					s.touch(topology.Change{Proxies: map[topology.ProxyID]topology.Scope{p.id: topology.ScopeFull, {Name: "absent"}: 1}})
				}
				<-time.After(time.Second)
				cancel()
				s.queue.close()
				wg.Wait()
				if !slices.Equal(got, tt.want) {
					t.Errorf("flushed at %v, want %v", got, tt.want)
				}
			})
		})
	}
}

func TestOneWorkerPerProxy(t *testing.T) {
	s := New(Config{Workers: 1})
	p := &proxy{id: topology.ProxyID{Mesh: "m", Name: "p"}}
	s.proxies[p.id] = p
	s.touch(topology.Change{Proxies: map[topology.ProxyID]topology.Scope{p.id: topology.ScopeEndpoints}})
	s.now(p, topology.ScopeFull)
	s.flush()
	if n := len(s.queue.items); n != 1 {
		t.Errorf("the proxy is in the queue %d times, want once", n)
	}
	if p.dirty != topology.ScopeFull|topology.ScopeEndpoints {
		t.Errorf("scope is %b", p.dirty)
	}
}
