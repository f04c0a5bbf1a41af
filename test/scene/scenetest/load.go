//go:build linux

// Package scenetest holds what tests on a scene do alike.
package scenetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kuma-dp/kuma-dp/test/scene"
)

const (
	// Patience bounds what a test waits for; it is no measurement.
	Patience = 60 * time.Second
	// concurrency of a load stays within the three retries at a time that the default circuit breaker of a mesh allows.
	concurrency = 3
	backend     = "backend.svc.mesh.local"
)

// Load sends requests for one name, backend's if not told otherwise, from a workload's host, by its virtual IP, all the time.
type Load struct {
	// Sent counts answered requests, Failed those that were not answered 200, and Denied those answered 403 among them.
	Sent, Failed, Denied atomic.Int64

	t      *testing.T
	client *http.Client
	cancel context.CancelFunc
	wg     sync.WaitGroup
	first  atomic.Value
}

// StartLoad begins; the load ends with Stop, or with the test.
func StartLoad(t *testing.T, w *scene.Workload) *Load {
	t.Helper()
	return StartLoadTo(t, w, backend, scene.AppPort)
}

// StartLoadAt is StartLoad with at most so many requests a second.
func StartLoadAt(t *testing.T, w *scene.Workload, rate int) *Load {
	t.Helper()
	pace := time.NewTicker(time.Second / time.Duration(rate))
	t.Cleanup(pace.Stop)
	return start(t, w, net.JoinHostPort(Resolve(t, w, backend), strconv.Itoa(scene.AppPort)), pace.C)
}

// StartLoadTo is StartLoad for another name and port.
func StartLoadTo(t *testing.T, w *scene.Workload, name string, port int) *Load {
	t.Helper()
	return StartLoadDirect(t, w, net.JoinHostPort(Resolve(t, w, name), strconv.Itoa(port)))
}

// StartLoadDirect is StartLoad for host:port, of whatever is there.
func StartLoadDirect(t *testing.T, w *scene.Workload, address string) *Load {
	t.Helper()
	return start(t, w, address, nil)
}

// start has each request wait for pace, unless that is nil.
func start(t *testing.T, w *scene.Workload, address string, pace <-chan time.Time) *Load {
	t.Helper()
	url := "http://" + address
	c, cancel := context.WithCancel(t.Context())
	l := &Load{t: t, client: scene.HTTPClient(w.Host), cancel: cancel}
	for range concurrency {
		l.wg.Go(func() {
			for c.Err() == nil {
				if pace != nil {
					select {
					case <-pace:
					case <-c.Done():
						return
					}
				}
				l.one(c, l.client, url)
			}
		})
	}
	t.Cleanup(l.Stop)
	return l
}

func (l *Load) one(c context.Context, client *http.Client, url string) {
	req, err := http.NewRequestWithContext(c, http.MethodGet, url, nil)
	if err != nil {
		l.t.Error(err)
		return
	}
	resp, err := client.Do(req)
	if err == nil {
		// Read to the end, so that the connection is kept: a new one for each request runs into limits of the kernel's
		// redirection, which are not what is asked about.
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusForbidden {
			l.Denied.Add(1)
		}
		if resp.StatusCode != http.StatusOK {
			err = errors.New(resp.Status)
		}
	}
	if err != nil && c.Err() != nil {
		return // the load was stopped
	}
	l.Sent.Add(1)
	if err != nil {
		l.Failed.Add(1)
		l.first.CompareAndSwap(nil, err.Error())
	}
}

// AwaitMore waits until n more requests were answered.
func (l *Load) AwaitMore(n int64) {
	l.t.Helper()
	c, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	want := l.Sent.Load() + n
	if err := scene.Await(c, "requests", func(context.Context) error {
		if got := l.Sent.Load(); got < want {
			return fmt.Errorf("%d of %d", got, want)
		}
		return nil
	}); err != nil {
		l.t.Fatal(err)
	}
}

// First is the error of the first request that failed, "" when none did.
func (l *Load) First() string {
	text, _ := l.first.Load().(string)
	return text
}

// Stop ends the load with its connections and waits for its requests. It may be called again.
func (l *Load) Stop() {
	l.cancel()
	l.wg.Wait()
	l.client.CloseIdleConnections()
}

// Unharmed ends the load and asks that no request failed.
func (l *Load) Unharmed() {
	l.t.Helper()
	l.Stop()
	if n := l.Failed.Load(); n > 0 {
		l.t.Errorf("%d of %d requests failed, first: %s", n, l.Sent.Load(), l.First())
	}
}

// Resolve asks for name as an application of the workload would: at the nameserver of resolv.conf, which does not exist, so
// that only redirection brings the question to the agent.
func Resolve(t *testing.T, w *scene.Workload, name string) string {
	t.Helper()
	r := net.Resolver{PreferGo: true, Dial: func(c context.Context, network, _ string) (net.Conn, error) {
		return w.Host.DialContext(c, network, "10.77.0.1:53")
	}}
	c, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	addrs, err := r.LookupNetIP(c, "ip4", name)
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0].String()
}
